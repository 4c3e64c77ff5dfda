package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/** Where the broker is, the control line, and the JSON line for each scenario. Knows no client library. */
final class Harness {
    static final int PATIENCE_SECONDS = 30;
    static final String HOST = System.getenv("AMQP_HOST");
    static final int PORT = Integer.parseInt(System.getenv("AMQP_PORT"));
    static final int TLS_PORT = Integer.parseInt(System.getenv("AMQP_TLS_PORT"));
    static final String PREFIX = System.getenv("AMQP_PREFIX");

    interface Scenario {
        /** A word of detail, or "". */
        String play() throws Exception;
    }

    private Harness() {}

    static void same(Object actual, Object expected) {
        if (!Objects.deepEquals(actual, expected)) {
            throw new AssertionError(actual + " instead of " + expected);
        }
    }

    static String control(Object... words) throws Exception {
        StringBuilder request = new StringBuilder();
        for (Object word : words) {
            request.append(word).append(' ');
        }
        try (Socket line = new Socket("127.0.0.1", Integer.parseInt(System.getenv("AMQP_CONTROL")))) {
            line.getOutputStream().write((request.toString().trim() + "\n").getBytes(StandardCharsets.UTF_8));
            String answer = new BufferedReader(new InputStreamReader(line.getInputStream())).readLine();
            if (answer == null || !answer.startsWith("ok")) {
                throw new AssertionError(request + ": " + answer);
            }
            return answer.substring(2).trim();
        }
    }

    static void until(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within " + PATIENCE_SECONDS + " s: " + what);
            }
            Thread.sleep(20);
        }
    }

    static <T> T next(BlockingQueue<T> from, String what) throws InterruptedException {
        T value = from.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
        if (value == null) {
            throw new AssertionError("not within " + PATIENCE_SECONDS + " s: " + what);
        }
        return value;
    }

    static void main(String[] names, Map<String, Scenario> scenarios) {
        for (String name : names) {
            String outcome = "ok";
            String detail;
            try {
                detail = scenarios.get(name).play();
            } catch (Throwable problem) {
                problem.printStackTrace();
                outcome = "failed";
                detail = problem.toString();
            }
            System.out.printf(
                    "{\"scenario\": %s, \"outcome\": %s, \"detail\": %s}%n", quoted(name), quoted(outcome), quoted(detail));
        }
        System.exit(0);
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char character : text.substring(0, Math.min(text.length(), 400)).toCharArray()) {
            if (character == '"' || character == '\\') {
                quoted.append('\\').append(character);
            } else if (character < ' ' || character > '~') {
                quoted.append(String.format("\\u%04x", (int) character));
            } else {
                quoted.append(character);
            }
        }
        return quoted.append('"').toString();
    }
}
