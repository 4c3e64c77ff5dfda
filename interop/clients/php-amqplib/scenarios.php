<?php

/** php-amqplib in the common scenarios. */

declare(strict_types=1);

require_once '/usr/share/php/PhpAmqpLib/autoload.php';
require_once __DIR__ . '/harness.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPSSLConnection;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPConnectionBlockedException;
use PhpAmqpLib\Exception\AMQPConnectionClosedException;
use PhpAmqpLib\Exception\AMQPExceptionInterface;
use PhpAmqpLib\Exception\AMQPHeartbeatMissedException;
use PhpAmqpLib\Exception\AMQPIOException;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPDecimal;
use PhpAmqpLib\Wire\AMQPTable;

const PERSISTENT = ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT];

function connect(int $port = 0, string $password = 'guest', string $vhost = '/', int $heartbeat = 0): AMQPStreamConnection
{
    $at = $port ?: (int) env('AMQP_PORT');
    return new AMQPStreamConnection(
        env('AMQP_HOST'), (string) $at, 'guest', $password, $vhost, heartbeat: $heartbeat, read_write_timeout: 30.0
    );
}

function exclusive(AMQPChannel $channel, array $arguments = []): string
{
    return $channel->queue_declare('', false, false, true, false, false, new AMQPTable($arguments))[0];
}

function send(AMQPChannel $channel, string $queue, string $body, array $properties = []): void
{
    $channel->basic_publish(new AMQPMessage($body, $properties), '', $queue);
}

/** Deliveries are added to what this returns while the channel waits. */
function consume(AMQPChannel $channel, string $queue, bool $noAck = false): ArrayObject
{
    $found = new ArrayObject();
    $channel->basic_consume($queue, '', false, $noAck, false, false, fn (AMQPMessage $message) => $found->append($message));
    return $found;
}

function await(AMQPChannel $channel, callable $condition, string $what): void
{
    $deadline = microtime(true) + PATIENCE;
    while (!$condition()) {
        if (microtime(true) > $deadline) {
            throw new RuntimeException('not within ' . PATIENCE . " s: $what");
        }
        try {
            $channel->wait(null, false, 0.05);
        } catch (AMQPTimeoutException) {
            continue;
        }
    }
}

/** @return AMQPMessage[] the next messages of a consumer that needs no acknowledgements */
function take(AMQPChannel $channel, string $queue, int $count = 1): array
{
    $found = new ArrayObject();
    $add = fn (AMQPMessage $message) => $found->append($message);
    $tag = $channel->basic_consume($queue, '', false, true, false, false, $add);
    await($channel, fn () => count($found) >= $count, "$count messages in $queue");
    $channel->basic_cancel($tag);
    return $found->getArrayCopy();
}

function bodies(AMQPChannel $channel, string $queue, int $count): array
{
    return array_map(fn (AMQPMessage $message) => $message->getBody(), take($channel, $queue, $count));
}

function ready(AMQPChannel $channel, string $queue): int
{
    return $channel->queue_declare($queue, true)[1];
}

function hello(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel);
    send($channel, $queue, 'Hello World!');
    same(bodies($channel, $queue, 1), ['Hello World!']);
    $connection->close();
}

function workQueues(): void
{
    $connection = connect();
    [$first, $second] = [$connection->channel(), $connection->channel()];
    $queue = exclusive($first);
    $first->basic_qos(0, 1, false);
    $second->basic_qos(0, 1, false);
    [$ofFirst, $ofSecond] = [consume($first, $queue), consume($second, $queue)];
    foreach (['one', 'two'] as $task) {
        send($second, $queue, $task, PERSISTENT);
    }
    await($first, fn () => count($ofFirst) === 1, 'the first task');
    await($second, fn () => count($ofSecond) === 1, 'the second task');
    same([$ofFirst[0]->getBody(), $ofSecond[0]->getBody()], ['one', 'two']);
    $first->close();
    $ofSecond[0]->ack();
    await($second, fn () => count($ofSecond) === 2, 'the task of the closed channel');
    same([$ofSecond[1]->getBody(), $ofSecond[1]->isRedelivered()], ['one', true]);
    $ofSecond[1]->ack();
    $connection->close();
}

function routed(string $kind, array $bindings, array $keys, array $expected): void
{
    $connection = connect();
    $channel = $connection->channel();
    $exchange = prefixed($kind);
    $channel->exchange_declare($exchange, $kind, false, false, true);
    $queues = [];
    foreach ($bindings as $patterns) {
        $queues[] = $queue = exclusive($channel);
        foreach ($patterns as $pattern) {
            $channel->queue_bind($queue, $exchange, $pattern);
        }
    }
    foreach ($keys as $key) {
        $channel->basic_publish(new AMQPMessage($key), $exchange, $key);
    }
    foreach ($queues as $i => $queue) {
        same(bodies($channel, $queue, count($expected[$i])), $expected[$i]);
        same(ready($channel, $queue), 0);
    }
    $connection->close();
}

function publishSubscribe(): void
{
    routed('fanout', [[''], ['']], ['news'], [['news'], ['news']]);
}

function routing(): void
{
    $keys = ['info', 'error', 'debug', 'warning'];
    routed('direct', [['error'], ['info', 'warning', 'error']], $keys, [['error'], ['info', 'error', 'warning']]);
}

function topics(): void
{
    $keys = ['kern.critical', 'cron.info', 'cron.critical', 'kern.a.b'];
    $expected = [['kern.critical'], ['kern.critical', 'cron.critical'], $keys];
    routed('topic', [['kern.*'], ['*.critical'], ['#']], $keys, $expected);
}

function rpc(): void
{
    [$serving, $calling] = [connect(), connect()];
    [$server, $client] = [$serving->channel(), $calling->channel()];
    $queue = prefixed('rpc');
    $server->queue_declare($queue, false, false, false, true);
    $answered = 0;
    $answer = function (AMQPMessage $asked) use ($server, &$answered) {
        $properties = ['correlation_id' => $asked->get('correlation_id')];
        send($server, $asked->get('reply_to'), (string) fibonacci((int) $asked->getBody()), $properties);
        $asked->ack();
        $answered++;
    };
    $server->basic_consume($queue, '', false, false, false, false, $answer);
    foreach ([exclusive($client), 'amq.rabbitmq.reply-to'] as $callback) {
        $answers = consume($client, $callback, true);
        $answered = 0;
        foreach (['5', '10'] as $n) {
            send($client, $queue, $n, ['reply_to' => $callback, 'correlation_id' => $n]);
        }
        // One thread: the server serves when the client has asked.
        await($server, function () use (&$answered) { return $answered === 2; }, 'two requests');
        await($client, fn () => count($answers) === 2, 'two answers');
        $found = [];
        foreach ($answers as $message) {
            $found[$message->get('correlation_id')] = $message->getBody();
        }
        same($found, ['5' => '5', '10' => '55']);
    }
    $calling->close();
    $serving->close();
}

function confirms(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel);
    $acked = 0;
    $channel->set_ack_handler(function () use (&$acked) { $acked++; });
    $channel->confirm_select();
    for ($i = 0; $i < 20; $i++) {
        send($channel, $queue, 'single');
        $channel->wait_for_pending_acks(PATIENCE);
    }
    for ($i = 0; $i < 100; $i++) {
        send($channel, $queue, 'batch');
    }
    $channel->wait_for_pending_acks(PATIENCE);
    same([$acked, ready($channel, $queue)], [120, 120]);
    $connection->close();
}

function confirmWindow(): string
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = prefixed('window');
    $channel->queue_declare($queue, false, true, false, false);
    [$acked, $nacked] = [0, 0];
    $channel->set_ack_handler(function () use (&$acked) { $acked++; });
    $channel->set_nack_handler(function () use (&$nacked) { $nacked++; });
    $channel->confirm_select();
    $full = function (int $published) use (&$acked) { return $published - $acked < 100; };
    for ($published = 0; $published < 1000; $published++) {
        if (!$full($published)) {
            await($channel, fn () => $full($published), 'room in the window');
        }
        send($channel, $queue, str_repeat('x', 100), PERSISTENT);
    }
    $channel->wait_for_pending_acks(PATIENCE);
    same([$acked, $nacked, ready($channel, $queue)], [1000, 0, 1000]);
    $channel->queue_delete($queue);
    $connection->close();
    return 'at most 100 unconfirmed';
}

function mandatory(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel);
    $events = [];
    $channel->set_ack_handler(function () use (&$events) { $events[] = 'ack'; });
    $channel->set_return_listener(
        function ($code, $text, $exchange, $key, AMQPMessage $message) use (&$events) {
            $events[] = [$code, $text, $message->get('message_id'), $message->getBody()];
        }
    );
    $channel->confirm_select();
    $channel->basic_publish(new AMQPMessage('routed'), '', $queue, true);
    $channel->wait_for_pending_acks_returns(PATIENCE);
    $channel->basic_publish(new AMQPMessage('lost', ['message_id' => 'm1']), '', prefixed('nowhere'), true);
    $channel->wait_for_pending_acks_returns(PATIENCE);
    same($events, ['ack', [312, 'NO_ROUTE', 'm1', 'lost'], 'ack']);
    $connection->close();
}

function prefetch(): void
{
    $connection = connect();
    [$channel, $look] = [$connection->channel(), $connection->channel()];
    $queue = exclusive($channel);
    for ($i = 0; $i < 10; $i++) {
        send($look, $queue, (string) $i);
    }
    until('ten messages', fn () => ready($look, $queue) === 10);
    $channel->basic_qos(0, 3, false);
    $held = consume($channel, $queue);
    foreach ([3, 6, 9, 10] as $count) {
        await($channel, fn () => count($held) === $count, "$count deliveries");
        same(ready($look, $queue), 10 - $count);
        $held[$count - 1]->ack(true);
    }
    $channel->close();
    same(ready($look, $queue), 0);
    $connection->close();
}

function getOne(AMQPChannel $channel, string $queue): AMQPMessage
{
    return until("a message in $queue", fn () => $channel->basic_get($queue));
}

function death(AMQPMessage $message): array
{
    return $message->get('application_headers')->getNativeData()['x-death'][0];
}

function deadLetteredTo(string $grave): array
{
    return ['x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $grave];
}

function deadLetter(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $grave = exclusive($channel);
    $queue = exclusive($channel, deadLetteredTo($grave));
    send($channel, $queue, '0');
    send($channel, $queue, '1');
    getOne($channel, $queue)->nack(true);
    $again = getOne($channel, $queue);
    same([$again->isRedelivered(), $again->getBody()], [true, '0']);
    $channel->basic_nack(getOne($channel, $queue)->getDeliveryTag(), true, false);
    foreach (take($channel, $grave, 2) as $dead) {
        $found = death($dead);
        same([$found['reason'], $found['queue'], $found['count']], ['rejected', $queue, 1]);
    }
    $connection->close();
}

function priorities(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel, ['x-max-priority' => 10]);
    foreach ([1, 5, 9, 3] as $priority) {
        send($channel, $queue, (string) $priority, ['priority' => $priority]);
    }
    until('four messages', fn () => ready($channel, $queue) === 4);
    same(bodies($channel, $queue, 4), ['9', '5', '3', '1']);
    $connection->close();
}

function ttl(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $grave = exclusive($channel);
    $byMessage = exclusive($channel, deadLetteredTo($grave));
    $byQueue = exclusive($channel, deadLetteredTo($grave) + ['x-message-ttl' => 40]);
    send($channel, $byMessage, 'message', ['expiration' => '40']);
    send($channel, $byQueue, 'queue');
    $found = [];
    foreach (take($channel, $grave, 2) as $expired) {
        $found[$expired->getBody()] = death($expired)['reason'];
    }
    same($found, ['message' => 'expired', 'queue' => 'expired']);
    send($channel, $byMessage, 'stays');
    same(bodies($channel, $byMessage, 1), ['stays']);
    $connection->close();
}

function largeAndEmpty(): void
{
    $large = str_repeat(implode('', array_map('chr', range(0, 255))), 32768);
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel);
    send($channel, $queue, $large);
    send($channel, $queue, '');
    [$first, $second] = bodies($channel, $queue, 2);
    same([$first === $large, $second], [true, '']);
    $connection->close();
}

function values(): AMQPTable
{
    $values = new AMQPTable([
        'bool' => true,
        'int' => -2147483647,
        'long' => 2 ** 62,
        'decimal' => new AMQPDecimal(1234, 2),
        'string' => 'text é',
        'timestamp' => new DateTime('@1700000000'),
        'table' => ['nested' => ['deep' => 1]],
        'array' => [1, 'two', [3], ['four' => 4]],
        'void' => null,
    ]);
    $values->set('byte', -100, AMQPTable::T_INT_SHORTSHORT);
    $values->set('unsigned', 4294967295, AMQPTable::T_INT_LONG_U);
    $values->set('bytes', "\0\xff", AMQPTable::T_BYTES);
    return $values;
}

function tableValues(): string
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel);
    send($channel, $queue, '', ['application_headers' => values()]);
    $received = take($channel, $queue)[0]->get('application_headers');
    same($received->getNativeData(), values()->getNativeData());
    $connection->close();
    return implode(', ', array_keys(values()->getNativeData())) . '; this version sends no floats';
}

function headersToTheByte(): string
{
    $relay = (int) control('relay');
    $connection = connect($relay);
    $channel = $connection->channel();
    $queue = exclusive($channel);
    send($channel, $queue, 'body', [
        'content_type' => 'text/plain',
        'content_encoding' => 'utf-8',
        'application_headers' => values(),
        'delivery_mode' => 2,
        'priority' => 3,
        'correlation_id' => 'correlation',
        'reply_to' => 'reply',
        'expiration' => '60000',
        'message_id' => 'id',
        'timestamp' => 1700000000,
        'type' => 'kind',
        'user_id' => 'guest',
        'app_id' => 'app',
    ]);
    take($channel, $queue);
    $compared = control('headers', $relay);
    $connection->close();
    return "$compared header";
}

function consumerCancel(): string
{
    $connection = connect();
    [$channel, $other] = [$connection->channel(), $connection->channel()];
    $queue = exclusive($channel);
    consume($channel, $queue);
    $other->queue_delete($queue);
    try {
        await($channel, fn () => false, 'the notification');
    } catch (AMQPBasicCancelException $told) {
        $connection->close();
        return $told::class;
    }
}

function blocked(): string
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = exclusive($channel);
    control('alarm', 'on');
    send($channel, $queue, 'x');
    await($channel, fn () => $connection->isBlocked(), 'connection.blocked');
    $told = '';
    try {
        send($channel, $queue, 'x');
    } catch (AMQPConnectionBlockedException $refused) {
        $told = $refused::class;
    }
    control('alarm', 'off');
    await($channel, fn () => !$connection->isBlocked(), 'connection.unblocked');
    same($told, AMQPConnectionBlockedException::class);
    $connection->close();
    return $told;
}

/** The library leaves recovery to the program: connect, declare and consume again. */
function recovery(): string
{
    $name = prefixed('recovery');
    $open = function () use ($name): AMQPChannel {
        $connection = until('a connection', function () {
            try {
                return connect();
            } catch (AMQPExceptionInterface) {
                return null;
            }
        });
        $channel = $connection->channel();
        $channel->exchange_declare($name, 'direct', false, true, false);
        $channel->queue_declare($name, false, true, false, false);
        $channel->queue_bind($name, $name, 'key');
        $channel->confirm_select();
        return $channel;
    };
    $publish = function (AMQPChannel $channel, string $body) use ($name) {
        $channel->basic_publish(new AMQPMessage($body, PERSISTENT), $name, 'key');
        $channel->wait_for_pending_acks(PATIENCE);
    };
    $channel = $open();
    $publish($channel, 'before');
    control('restart');
    try {
        $channel->wait(null, false, PATIENCE);
    } catch (AMQPConnectionClosedException | AMQPIOException) {
        $channel = $open();
    }
    $publish($channel, 'after');
    same(bodies($channel, $name, 2), ['before', 'after']);
    $channel->queue_delete($name);
    $channel->exchange_delete($name);
    $channel->getConnection()->close();
    return 'by the program';
}

function heartbeats(): string
{
    $relay = (int) control('relay');
    $connection = connect($relay, heartbeat: 1);
    $channel = $connection->channel();
    $live = function (float $seconds) use ($connection, $channel) {
        for ($deadline = microtime(true) + $seconds; microtime(true) < $deadline;) {
            try {
                $channel->wait(null, false, 0.25);
            } catch (AMQPTimeoutException) {
                $connection->checkHeartBeat();
            }
        }
    };
    $live(3.5);
    same($connection->isConnected(), true);
    control('freeze', $relay);
    try {
        $live(PATIENCE);
    } catch (AMQPHeartbeatMissedException | AMQPConnectionClosedException | AMQPIOException $lost) {
        control('dropped', $relay);
        return $lost::class;
    }
    throw new RuntimeException('the silence was not noticed');
}

function overTls(string $authority): AMQPSSLConnection
{
    $trust = ['cafile' => env($authority), 'verify_peer' => true, 'verify_peer_name' => true, 'peer_name' => 'localhost'];
    return new AMQPSSLConnection(env('AMQP_HOST'), (int) env('AMQP_TLS_PORT'), 'guest', 'guest', '/', $trust);
}

function tls(): string
{
    $connection = overTls('AMQP_CA');
    $channel = $connection->channel();
    $queue = exclusive($channel);
    send($channel, $queue, 'secret');
    same(bodies($channel, $queue, 1), ['secret']);
    $connection->close();
    try {
        overTls('AMQP_OTHER_CA');
    } catch (AMQPExceptionInterface | ErrorException $refused) {
        return $refused::class;
    }
    throw new RuntimeException('a broker of an unknown authority was trusted');
}

function errors(): string
{
    [$connection, $other] = [connect(), connect()];
    $queue = prefixed('errors');
    $connection->channel()->queue_declare($queue, false, false, true, false);
    $attempts = [
        [404, $connection, fn ($channel) => $channel->queue_declare(prefixed('missing'), true)],
        [406, $connection, fn ($channel) => $channel->queue_declare($queue, false, false, true, true)],
        [406, $connection, fn ($channel) => [$channel->basic_ack(42), $channel->wait(null, false, PATIENCE)]],
        [405, $other, fn ($channel) => $channel->queue_declare($queue, true)],
    ];
    foreach ($attempts as [$code, $opener, $spoil]) {
        same(codeOf(fn () => $spoil($opener->channel()), AMQPProtocolChannelException::class), $code);
    }
    same(codeOf(fn () => connect(password: 'wrong'), AMQPConnectionClosedException::class), 403);
    same(codeOf(fn () => connect(vhost: 'missing'), AMQPConnectionClosedException::class), 530);
    $connection->close();
    $other->close();
    return 'AMQPProtocolChannelException, AMQPConnectionClosedException';
}

function codeOf(callable $work, string $kind): int
{
    try {
        $work();
    } catch (AMQPExceptionInterface $refused) {
        same($refused::class, $kind);
        return $refused->getCode();
    }
    throw new RuntimeException('it was not refused');
}

play(array_slice($argv, 1), [
    'tutorial-1-hello' => hello(...),
    'tutorial-2-work-queues' => workQueues(...),
    'tutorial-3-publish-subscribe' => publishSubscribe(...),
    'tutorial-4-routing' => routing(...),
    'tutorial-5-topics' => topics(...),
    'tutorial-6-rpc' => rpc(...),
    'tutorial-7-confirms' => confirms(...),
    'confirm-window' => confirmWindow(...),
    'mandatory-return' => mandatory(...),
    'prefetch-multiple-ack' => prefetch(...),
    'nack-dead-letter' => deadLetter(...),
    'priorities' => priorities(...),
    'ttl' => ttl(...),
    'large-and-empty' => largeAndEmpty(...),
    'table-values' => tableValues(...),
    'headers-to-the-byte' => headersToTheByte(...),
    'consumer-cancel' => consumerCancel(...),
    'connection-blocked' => blocked(...),
    'recovery' => recovery(...),
    'heartbeats' => heartbeats(...),
    'tls' => tls(...),
    'errors' => errors(...),
]);
