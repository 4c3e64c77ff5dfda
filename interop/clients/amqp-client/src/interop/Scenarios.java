package interop;

import static interop.Harness.HOST;
import static interop.Harness.PORT;
import static interop.Harness.PREFIX;
import static interop.Harness.TLS_PORT;
import static interop.Harness.control;
import static interop.Harness.next;
import static interop.Harness.same;
import static interop.Harness.until;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.impl.LongStringHelper;
import java.io.FileInputStream;
import java.math.BigDecimal;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** RabbitMQ's Java client in the common scenarios. */
final class Scenarios {
    private static final BasicProperties PLAIN = new BasicProperties();

    private Scenarios() {}

    static ConnectionFactory factory() {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost(HOST);
        factory.setPort(PORT);
        factory.setNetworkRecoveryInterval(200);
        return factory;
    }

    static String exclusive(Channel channel, Map<String, Object> arguments) throws Exception {
        return channel.queueDeclare("", false, true, false, arguments).getQueue();
    }

    static void send(Channel channel, String queue, String body) throws Exception {
        channel.basicPublish("", queue, PLAIN, body.getBytes("UTF-8"));
    }

    static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        return deliveries;
    }

    /** The next messages of a consumer that needs no acknowledgements. */
    static List<Delivery> take(Channel channel, String queue, int count) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume(queue, true, (t, delivery) -> deliveries.add(delivery), t -> {});
        List<Delivery> found = new ArrayList<>();
        while (found.size() < count) {
            found.add(next(deliveries, "a message of " + queue));
        }
        channel.basicCancel(tag);
        return found;
    }

    static List<String> bodies(Channel channel, String queue, int count) throws Exception {
        List<String> found = new ArrayList<>();
        for (Delivery delivery : take(channel, queue, count)) {
            found.add(text(delivery));
        }
        return found;
    }

    static String text(Delivery delivery) throws Exception {
        return new String(delivery.getBody(), "UTF-8");
    }

    static long ready(Channel channel, String queue) throws Exception {
        return channel.messageCount(queue);
    }

    static String hello() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            send(channel, queue, "Hello World!");
            same(bodies(channel, queue, 1), List.of("Hello World!"));
        }
        return "";
    }

    static String workQueues() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel first = connection.createChannel();
            Channel second = connection.createChannel();
            String queue = exclusive(first, null);
            first.basicQos(1);
            second.basicQos(1);
            BlockingQueue<Delivery> ofFirst = consume(first, queue, false);
            BlockingQueue<Delivery> ofSecond = consume(second, queue, false);
            for (String task : List.of("one", "two")) {
                second.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, task.getBytes());
            }
            Delivery one = next(ofFirst, "the first task");
            Delivery two = next(ofSecond, "the second task");
            same(List.of(text(one), text(two)), List.of("one", "two"));
            first.close();
            second.basicAck(two.getEnvelope().getDeliveryTag(), false);
            Delivery again = next(ofSecond, "the task of the closed channel");
            same(List.of(text(again), again.getEnvelope().isRedeliver()), List.of("one", true));
            second.basicAck(again.getEnvelope().getDeliveryTag(), false);
        }
        return "";
    }

    static String publishSubscribe() throws Exception {
        return routed("fanout", List.of(List.of(""), List.of("")), List.of("news"), List.of(List.of("news"), List.of("news")));
    }

    static String routed(String kind, List<List<String>> bindings, List<String> keys, List<List<String>> expected)
            throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String exchange = PREFIX + "-" + kind;
            channel.exchangeDeclare(exchange, kind, false, true, null);
            List<String> queues = new ArrayList<>();
            for (List<String> patterns : bindings) {
                String queue = exclusive(channel, null);
                for (String pattern : patterns) {
                    channel.queueBind(queue, exchange, pattern);
                }
                queues.add(queue);
            }
            for (String key : keys) {
                channel.basicPublish(exchange, key, PLAIN, key.getBytes());
            }
            for (int i = 0; i < queues.size(); i++) {
                same(bodies(channel, queues.get(i), expected.get(i).size()), expected.get(i));
                same(ready(channel, queues.get(i)), 0L);
            }
        }
        return "";
    }

    static String routing() throws Exception {
        return routed(
                "direct",
                List.of(List.of("error"), List.of("info", "warning", "error")),
                List.of("info", "error", "debug", "warning"),
                List.of(List.of("error"), List.of("info", "error", "warning")));
    }

    static String topics() throws Exception {
        List<String> keys = List.of("kern.critical", "cron.info", "cron.critical", "kern.a.b");
        return routed(
                "topic",
                List.of(List.of("kern.*"), List.of("*.critical"), List.of("#")),
                keys,
                List.of(List.of("kern.critical"), List.of("kern.critical", "cron.critical"), keys));
    }

    static int fibonacci(int n) {
        return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
    }

    static String rpc() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel server = connection.createChannel();
            Channel client = connection.createChannel();
            String queue = exclusive(server, null);
            server.basicConsume(
                    queue,
                    false,
                    (tag, request) -> {
                        BasicProperties asked = request.getProperties();
                        BasicProperties answer =
                                new BasicProperties.Builder().correlationId(asked.getCorrelationId()).build();
                        int n = Integer.parseInt(new String(request.getBody()));
                        String body = Integer.toString(fibonacci(n));
                        server.basicPublish("", asked.getReplyTo(), answer, body.getBytes());
                        server.basicAck(request.getEnvelope().getDeliveryTag(), false);
                    },
                    tag -> {});
            for (String replyTo : List.of(exclusive(client, null), "amq.rabbitmq.reply-to")) {
                BlockingQueue<Delivery> answers = consume(client, replyTo, true);
                for (String n : List.of("5", "10")) {
                    BasicProperties asked = new BasicProperties.Builder().replyTo(replyTo).correlationId(n).build();
                    client.basicPublish("", queue, asked, n.getBytes());
                }
                Map<String, String> found = new TreeMap<>();
                while (found.size() < 2) {
                    Delivery answer = next(answers, "an answer");
                    found.put(answer.getProperties().getCorrelationId(), text(answer));
                }
                same(found, Map.of("5", "5", "10", "55"));
            }
        }
        return "";
    }

    static String confirms() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            channel.confirmSelect();
            for (int i = 0; i < 20; i++) {
                send(channel, queue, "single");
                channel.waitForConfirmsOrDie(30_000);
            }
            for (int i = 0; i < 50; i++) {
                send(channel, queue, "batch");
            }
            channel.waitForConfirmsOrDie(30_000);
            Set<Long> open = new ConcurrentSkipListSet<>();
            channel.addConfirmListener((tag, multiple) -> settle(open, tag, multiple), (tag, multiple) -> {});
            for (int i = 0; i < 50; i++) {
                open.add(channel.getNextPublishSeqNo());
                send(channel, queue, "async");
            }
            until("the confirms", open::isEmpty);
            same(ready(channel, queue), 120L);
        }
        return "";
    }

    static int settle(Set<Long> open, long tag, boolean multiple) {
        int settled = 0;
        for (long each : open) {
            if (each == tag || (multiple && each < tag)) {
                open.remove(each);
                settled++;
            }
        }
        return settled;
    }

    static String confirmWindow() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = PREFIX + "-window";
            channel.queueDeclare(queue, true, false, false, null);
            channel.confirmSelect();
            Semaphore window = new Semaphore(100);
            Set<Long> open = new ConcurrentSkipListSet<>();
            Set<Long> nacked = new ConcurrentSkipListSet<>();
            channel.addConfirmListener(
                    (tag, multiple) -> window.release(settle(open, tag, multiple)), (tag, multiple) -> nacked.add(tag));
            int most = 0;
            for (int i = 0; i < 1000; i++) {
                same(window.tryAcquire(30, TimeUnit.SECONDS), true);
                open.add(channel.getNextPublishSeqNo());
                most = Math.max(most, open.size());
                channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, new byte[100]);
            }
            until("the confirms", open::isEmpty);
            same(List.of(nacked.size(), ready(channel, queue)), List.of(0, 1000L));
            channel.queueDelete(queue);
            return "at most " + most + " unconfirmed";
        }
    }

    static String mandatory() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            BlockingQueue<String> events = new LinkedBlockingQueue<>();
            channel.addReturnListener(
                    back -> events.add(
                            back.getReplyCode() + " " + back.getReplyText() + " " + back.getProperties().getMessageId()
                                    + " " + new String(back.getBody())));
            channel.addConfirmListener((tag, multiple) -> events.add("ack"), (tag, multiple) -> events.add("nack"));
            channel.confirmSelect();
            channel.basicPublish("", queue, true, PLAIN, "routed".getBytes());
            same(next(events, "an ack"), "ack");
            BasicProperties named = new BasicProperties.Builder().messageId("m1").build();
            channel.basicPublish("", PREFIX + "-nowhere", true, named, "lost".getBytes());
            same(next(events, "the return"), "312 NO_ROUTE m1 lost");
            same(next(events, "its ack"), "ack");
        }
        return "";
    }

    static String prefetch() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            Channel look = connection.createChannel();
            String queue = exclusive(channel, null);
            for (int i = 0; i < 10; i++) {
                send(look, queue, Integer.toString(i));
            }
            until("ten messages", () -> ready(look, queue) == 10);
            channel.basicQos(3);
            BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
            int held = 0;
            while (held < 10) {
                Delivery last = null;
                for (int more = Math.min(3, 10 - held); more > 0; more--) {
                    last = next(deliveries, "a delivery");
                    held++;
                }
                same(ready(look, queue), 10L - held);
                channel.basicAck(last.getEnvelope().getDeliveryTag(), true);
            }
            channel.close();
            same(ready(look, queue), 0L);
        }
        return "";
    }

    static GetResponse getOne(Channel channel, String queue) throws Exception {
        List<GetResponse> found = new ArrayList<>();
        until("a message in " + queue, () -> {
            GetResponse response = channel.basicGet(queue, false);
            return response != null && found.add(response);
        });
        return found.get(0);
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> death(Delivery delivery) {
        return ((List<Map<String, Object>>) delivery.getProperties().getHeaders().get("x-death")).get(0);
    }

    static Map<String, Object> deadLetteredTo(String grave) {
        return new HashMap<>(Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", grave));
    }

    static String deadLetter() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String grave = exclusive(channel, null);
            String queue = exclusive(channel, deadLetteredTo(grave));
            send(channel, queue, "0");
            send(channel, queue, "1");
            channel.basicNack(getOne(channel, queue).getEnvelope().getDeliveryTag(), false, true);
            GetResponse again = getOne(channel, queue);
            same(List.of(again.getEnvelope().isRedeliver(), new String(again.getBody())), List.of(true, "0"));
            channel.basicNack(getOne(channel, queue).getEnvelope().getDeliveryTag(), true, false);
            for (Delivery dead : take(channel, grave, 2)) {
                Map<String, Object> found = death(dead);
                same(
                        List.of(found.get("reason").toString(), found.get("queue").toString(), found.get("count")),
                        List.of("rejected", queue, 1L));
            }
        }
        return "";
    }

    static String priorities() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, Map.of("x-max-priority", 10));
            for (int priority : new int[] {1, 5, 9, 3}) {
                BasicProperties properties = new BasicProperties.Builder().priority(priority).build();
                channel.basicPublish("", queue, properties, Integer.toString(priority).getBytes());
            }
            until("four messages", () -> ready(channel, queue) == 4);
            same(bodies(channel, queue, 4), List.of("9", "5", "3", "1"));
        }
        return "";
    }

    static String ttl() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String grave = exclusive(channel, null);
            Map<String, Object> arguments = deadLetteredTo(grave);
            String byMessage = exclusive(channel, arguments);
            arguments.put("x-message-ttl", 40);
            String byQueue = exclusive(channel, arguments);
            BasicProperties soon = new BasicProperties.Builder().expiration("40").build();
            channel.basicPublish("", byMessage, soon, "message".getBytes());
            send(channel, byQueue, "queue");
            Set<String> found = new TreeSet<>();
            for (Delivery expired : take(channel, grave, 2)) {
                same(death(expired).get("reason").toString(), "expired");
                found.add(text(expired));
            }
            same(found, Set.of("message", "queue"));
            send(channel, byMessage, "stays");
            same(bodies(channel, byMessage, 1), List.of("stays"));
        }
        return "";
    }

    static String largeAndEmpty() throws Exception {
        byte[] large = new byte[8 * 1024 * 1024];
        for (int i = 0; i < large.length; i++) {
            large[i] = (byte) i;
        }
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            channel.basicPublish("", queue, PLAIN, large);
            channel.basicPublish("", queue, PLAIN, new byte[0]);
            List<Delivery> received = take(channel, queue, 2);
            same(Arrays.equals(received.get(0).getBody(), large), true);
            same(received.get(1).getBody().length, 0);
        }
        return "";
    }

    static Map<String, Object> values() {
        Map<String, Object> values = new LinkedHashMap<>();
        values.put("bool", true);
        values.put("byte", (byte) -100);
        values.put("short", (short) -30000);
        values.put("int", Integer.MIN_VALUE);
        values.put("long", 1L << 62);
        values.put("float", 1.5f);
        values.put("double", 2.5);
        values.put("decimal", new BigDecimal("12.34"));
        values.put("string", LongStringHelper.asLongString("text \u00e9"));
        values.put("bytes", new byte[] {0, -1});
        values.put("timestamp", new Date(1700000000000L));
        values.put("table", Map.of("nested", Map.of("deep", 1)));
        values.put("array", List.of(1, LongStringHelper.asLongString("two"), List.of(3), Map.of("four", 4)));
        values.put("void", null);
        return values;
    }

    static String tableValues() throws Exception {
        Map<String, Object> sent = values();
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            channel.basicPublish("", queue, new BasicProperties.Builder().headers(sent).build(), new byte[0]);
            Map<String, Object> received = take(channel, queue, 1).get(0).getProperties().getHeaders();
            same(received.keySet(), sent.keySet());
            for (Map.Entry<String, Object> entry : sent.entrySet()) {
                same(received.get(entry.getKey()), entry.getValue());
            }
        }
        return String.join(", ", sent.keySet());
    }

    static String headersToTheByte() throws Exception {
        int relay = Integer.parseInt(control("relay"));
        ConnectionFactory factory = factory();
        factory.setPort(relay);
        try (Connection connection = factory.newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            BasicProperties all = new BasicProperties(
                    "text/plain", "utf-8", values(), 2, 3, "correlation", "reply", "60000", "id",
                    new Date(1700000000000L), "kind", "guest", "app", null);
            channel.basicPublish("", queue, all, "body".getBytes());
            take(channel, queue, 1);
            return control("headers", relay) + " header";
        }
    }

    static String consumerCancel() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            String tag = channel.basicConsume(queue, (t, delivery) -> {}, told::add);
            connection.createChannel().queueDelete(queue);
            same(next(told, "the notification"), tag);
        }
        return "";
    }

    static String blocked() throws Exception {
        try (Connection connection = factory().newConnection()) {
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            connection.addBlockedListener(told::add, () -> told.add("unblocked"));
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            control("alarm", "on");
            until("connection.blocked", () -> {
                send(channel, queue, "x");
                return !told.isEmpty();
            });
            String reason = told.take();
            control("alarm", "off");
            same(next(told, "connection.unblocked"), "unblocked");
            return reason;
        }
    }

    static String recovery() throws Exception {
        String name = PREFIX + "-recovery";
        try (Connection connection = factory().newConnection()) {
            BlockingQueue<String> recovered = new LinkedBlockingQueue<>();
            ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
                @Override
                public void handleRecovery(Recoverable recoverable) {
                    recovered.add("recovered");
                }

                @Override
                public void handleRecoveryStarted(Recoverable recoverable) {}
            });
            Channel channel = connection.createChannel();
            channel.exchangeDeclare(name, "direct", true);
            channel.queueDeclare(name, true, false, false, null);
            channel.queueBind(name, name, "key");
            channel.confirmSelect();
            channel.basicQos(1);
            BlockingQueue<Delivery> deliveries = consume(channel, name, false);
            publishConfirmed(channel, name, "before");
            same(text(next(deliveries, "the first delivery")), "before"); // and not acknowledged
            control("restart");
            next(recovered, "the recovery");
            publishConfirmed(channel, name, "after");
            List<String> seen = new ArrayList<>();
            for (int i = 0; i < 2; i++) {
                Delivery delivery = next(deliveries, "a delivery");
                seen.add(text(delivery));
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }
            same(seen, List.of("before", "after"));
            channel.queueDelete(name);
            channel.exchangeDelete(name);
        }
        return "by the library: connection, topology and consumer";
    }

    static void publishConfirmed(Channel channel, String exchange, String body) throws Exception {
        channel.basicPublish(exchange, "key", MessageProperties.PERSISTENT_TEXT_PLAIN, body.getBytes());
        channel.waitForConfirmsOrDie(30_000);
    }

    static String heartbeats() throws Exception {
        int relay = Integer.parseInt(control("relay"));
        ConnectionFactory factory = factory();
        factory.setPort(relay);
        factory.setRequestedHeartbeat(1);
        factory.setAutomaticRecoveryEnabled(false);
        Connection connection = factory.newConnection();
        BlockingQueue<ShutdownSignalException> lost = new LinkedBlockingQueue<>();
        connection.addShutdownListener(lost::add);
        Thread.sleep(3500);
        same(connection.isOpen(), true);
        control("freeze", relay);
        Throwable reason = next(lost, "the loss of the connection").getCause();
        control("dropped", relay);
        return reason.toString();
    }

    static ConnectionFactory trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(file)) {
            store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        ConnectionFactory factory = factory();
        factory.setPort(TLS_PORT);
        factory.useSslProtocol(context);
        factory.enableHostnameVerification();
        return factory;
    }

    static String tls() throws Exception {
        try (Connection connection = trusting(System.getenv("AMQP_CA")).newConnection()) {
            Channel channel = connection.createChannel();
            String queue = exclusive(channel, null);
            send(channel, queue, "secret");
            same(bodies(channel, queue, 1), List.of("secret"));
        }
        try (Connection connection = trusting(System.getenv("AMQP_OTHER_CA")).newConnection()) {
            throw new AssertionError("a broker of an unknown authority was trusted");
        } catch (javax.net.ssl.SSLException refused) {
            return refused.getClass().getSimpleName();
        }
    }

    interface Spoiling {
        void spoil(Channel channel) throws Exception;
    }

    static int code(Connection connection, Spoiling work) throws Exception {
        Channel channel = connection.createChannel();
        BlockingQueue<ShutdownSignalException> closed = new LinkedBlockingQueue<>();
        channel.addShutdownListener(closed::add);
        try {
            work.spoil(channel);
        } catch (java.io.IOException | AlreadyClosedException expected) {
            // the listener gets the reason
        }
        return code(next(closed, "the channel's error"));
    }

    static int code(ShutdownSignalException signal) {
        Method reason = signal.getReason();
        if (reason instanceof com.rabbitmq.client.AMQP.Channel.Close) {
            return ((com.rabbitmq.client.AMQP.Channel.Close) reason).getReplyCode();
        }
        return ((com.rabbitmq.client.AMQP.Connection.Close) reason).getReplyCode();
    }

    static String errors() throws Exception {
        String queue = PREFIX + "-errors";
        try (Connection connection = factory().newConnection();
                Connection other = factory().newConnection()) {
            connection.createChannel().queueDeclare(queue, false, true, false, null);
            same(code(connection, channel -> channel.queueDeclarePassive(PREFIX + "-missing")), 404);
            same(code(connection, channel -> channel.queueDeclare(queue, false, true, true, null)), 406);
            same(code(connection, channel -> channel.basicAck(42, false)), 406);
            same(code(other, channel -> channel.queueDeclarePassive(queue)), 405);
        }
        ConnectionFactory wrong = factory();
        wrong.setPassword("wrong");
        try (Connection connection = wrong.newConnection()) {
            throw new AssertionError("a wrong password was accepted");
        } catch (AuthenticationFailureException refused) {
            same(refused.getMessage().contains("ACCESS_REFUSED"), true);
        }
        ConnectionFactory missing = factory();
        missing.setVirtualHost("missing");
        try (Connection connection = missing.newConnection()) {
            throw new AssertionError("a missing vhost was opened");
        } catch (java.io.IOException refused) {
            same(code((ShutdownSignalException) refused.getCause()), 530);
        }
        return "ShutdownSignalException, AuthenticationFailureException";
    }

    public static void main(String[] names) {
        Map<String, Harness.Scenario> scenarios = new HashMap<>();
        scenarios.put("tutorial-1-hello", Scenarios::hello);
        scenarios.put("tutorial-2-work-queues", Scenarios::workQueues);
        scenarios.put("tutorial-3-publish-subscribe", Scenarios::publishSubscribe);
        scenarios.put("tutorial-4-routing", Scenarios::routing);
        scenarios.put("tutorial-5-topics", Scenarios::topics);
        scenarios.put("tutorial-6-rpc", Scenarios::rpc);
        scenarios.put("tutorial-7-confirms", Scenarios::confirms);
        scenarios.put("confirm-window", Scenarios::confirmWindow);
        scenarios.put("mandatory-return", Scenarios::mandatory);
        scenarios.put("prefetch-multiple-ack", Scenarios::prefetch);
        scenarios.put("nack-dead-letter", Scenarios::deadLetter);
        scenarios.put("priorities", Scenarios::priorities);
        scenarios.put("ttl", Scenarios::ttl);
        scenarios.put("large-and-empty", Scenarios::largeAndEmpty);
        scenarios.put("table-values", Scenarios::tableValues);
        scenarios.put("headers-to-the-byte", Scenarios::headersToTheByte);
        scenarios.put("consumer-cancel", Scenarios::consumerCancel);
        scenarios.put("connection-blocked", Scenarios::blocked);
        scenarios.put("recovery", Scenarios::recovery);
        scenarios.put("heartbeats", Scenarios::heartbeats);
        scenarios.put("tls", Scenarios::tls);
        scenarios.put("errors", Scenarios::errors);
        Harness.main(names, scenarios);
    }
}
