<?php

/** Where the broker is, the control line, and the JSON line for each scenario. Knows no client library. */

declare(strict_types=1);

const PATIENCE = 30;

function env(string $name): string
{
    return getenv($name) ?: throw new RuntimeException("$name is not set");
}

function prefixed(string $name): string
{
    return env('AMQP_PREFIX') . '-' . $name;
}

function same(mixed $actual, mixed $expected): void
{
    if ($actual != $expected) {
        $shown = fn ($value) => substr(var_export($value, true), 0, 300);
        throw new RuntimeException($shown($actual) . ' instead of ' . $shown($expected));
    }
}

function control(string|int ...$words): string
{
    $line = fsockopen('127.0.0.1', (int) env('AMQP_CONTROL'));
    stream_set_timeout($line, 110);
    fwrite($line, implode(' ', $words) . "\n");
    $answer = trim((string) fgets($line));
    fclose($line);
    if (!str_starts_with($answer, 'ok')) {
        throw new RuntimeException(implode(' ', $words) . ": $answer");
    }
    return trim(substr($answer, 2));
}

function until(string $what, callable $condition): mixed
{
    for ($deadline = microtime(true) + PATIENCE; !($found = $condition()); usleep(20000)) {
        if (microtime(true) > $deadline) {
            throw new RuntimeException('not within ' . PATIENCE . " s: $what");
        }
    }
    return $found;
}

function fibonacci(int $n): int
{
    return $n < 2 ? $n : fibonacci($n - 1) + fibonacci($n - 2);
}

/** @param array<string, callable> $scenarios */
function play(array $names, array $scenarios): void
{
    foreach ($names as $name) {
        $outcome = 'ok';
        try {
            $detail = (string) $scenarios[$name]();
        } catch (Throwable $problem) {
            $outcome = 'failed';
            $detail = substr($problem::class . ': ' . $problem->getMessage(), 0, 400);
            fwrite(STDERR, "$problem\n");
        }
        $line = ['scenario' => $name, 'outcome' => $outcome, 'detail' => $detail];
        echo json_encode($line, JSON_INVALID_UTF8_SUBSTITUTE), "\n";
    }
}
