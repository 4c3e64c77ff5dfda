# frozen_string_literal: true

# bunny in the common scenarios.

require 'bunny'
require 'logger'
require_relative 'harness'

SILENT = Logger.new(IO::NULL)

def connect(**options)
  defaults = { host: HOST, port: PORT, logger: SILENT, recovery_attempts: 200, network_recovery_interval: 0.2 }
  Bunny.new(defaults.merge(options)).start
end

def channels(count = 1)
  connection = connect
  yield(*Array.new(count) { connection.create_channel }, connection)
ensure
  connection&.close
end

def exclusive(channel, arguments = {})
  channel.queue('', exclusive: true, arguments: arguments)
end

# Bodies and all, of a consumer that needs no acknowledgements.
def take(queue, count)
  found = Queue.new
  consumer = queue.subscribe { |*delivery| found << delivery }
  all = Array.new(count) { following(found, "a message of #{queue.name}") }
  consumer.cancel
  all
end

def bodies(queue, count)
  take(queue, count).map(&:last)
end

def one(queue)
  till("a message in #{queue.name}") do
    found = queue.pop(manual_ack: true)
    found.first && found
  end
end

def hello
  channels do |channel|
    queue = exclusive(channel)
    channel.default_exchange.publish('Hello World!', routing_key: queue.name)
    same bodies(queue, 1), ['Hello World!']
  end
end

def work_queues
  channels(2) do |first, second|
    name = exclusive(first).name
    seen = [first, second].map do |channel|
      channel.prefetch(1)
      found = Queue.new
      channel.queue(name, passive: true).subscribe(manual_ack: true) { |*delivery| found << delivery }
      found
    end
    %w[one two].each { |task| second.default_exchange.publish(task, routing_key: name, persistent: true) }
    one, two = seen.map { |found| following(found, 'a task') }
    same [one.last, two.last].sort, %w[one two]
    first.close
    second.ack(two.first.delivery_tag)
    again = following(seen.last, 'the task of the closed channel')
    same [again.last, again.first.redelivered?], [one.last, true]
    second.ack(again.first.delivery_tag)
  end
end

def routed(kind, bindings, keys, expected)
  channels do |channel|
    exchange = channel.exchange("#{PREFIX}-#{kind}", type: kind, auto_delete: true)
    queues = bindings.map do |patterns|
      queue = exclusive(channel)
      patterns.each { |pattern| queue.bind(exchange, routing_key: pattern) }
      queue
    end
    keys.each { |key| exchange.publish(key, routing_key: key) }
    queues.zip(expected) do |queue, wanted|
      same bodies(queue, wanted.size), wanted
      same queue.message_count, 0
    end
  end
end

def publish_subscribe
  routed(:fanout, [[''], ['']], ['news'], [['news'], ['news']])
end

def routing
  expected = [['error'], %w[info error warning]]
  routed(:direct, [['error'], %w[info warning error]], %w[info error debug warning], expected)
end

def topics
  keys = %w[kern.critical cron.info cron.critical kern.a.b]
  routed(:topic, [['kern.*'], ['*.critical'], ['#']], keys, [['kern.critical'], %w[kern.critical cron.critical], keys])
end

def rpc
  channels(2) do |server, client|
    queue = exclusive(server)
    queue.subscribe(manual_ack: true) do |delivery, asked, body|
      answer = fibonacci(Integer(body)).to_s
      server.default_exchange.publish(answer, routing_key: asked.reply_to, correlation_id: asked.correlation_id)
      server.ack(delivery.delivery_tag)
    end
    direct = client.queue('amq.rabbitmq.reply-to', no_declare: true)
    [exclusive(client), direct].each do |callback|
      answers = Queue.new
      callback.subscribe { |_, properties, body| answers << [properties.correlation_id, body] }
      %w[5 10].each do |n|
        client.default_exchange.publish(n, routing_key: queue.name, reply_to: callback.name, correlation_id: n)
      end
      same Array.new(2) { following(answers, 'an answer') }.to_h, { '5' => '5', '10' => '55' }
    end
  end
end

def confirms
  channels do |channel|
    queue = exclusive(channel)
    acked = Queue.new
    channel.confirm_select(->(*confirm) { acked << confirm })
    20.times do
      channel.default_exchange.publish('single', routing_key: queue.name)
      same channel.wait_for_confirms, true
    end
    50.times { channel.default_exchange.publish('batch', routing_key: queue.name) }
    same channel.wait_for_confirms, true
    50.times { channel.default_exchange.publish('async', routing_key: queue.name) }
    till('the callbacks') { channel.unconfirmed_set.empty? }
    same acked.empty?, false
    same queue.message_count, 120
  end
end

def confirm_window
  most = 0
  channels do |channel|
    queue = channel.queue("#{PREFIX}-window", durable: true)
    channel.confirm_select
    1000.times do
      till('room in the window') { channel.unconfirmed_set.size < 100 }
      channel.default_exchange.publish('x' * 100, routing_key: queue.name, persistent: true)
      most = [most, channel.unconfirmed_set.size].max
    end
    same channel.wait_for_confirms, true
    same [channel.nacked_set.size, queue.message_count], [0, 1000]
    queue.delete
  end
  "at most #{most} unconfirmed"
end

def mandatory
  channels do |channel|
    exchange = channel.direct("#{PREFIX}-mandatory", auto_delete: true)
    exclusive(channel).bind(exchange, routing_key: 'routed')
    events = Queue.new
    channel.confirm_select(->(_, _, nack) { events << (nack ? 'nack' : 'ack') })
    exchange.on_return { |back, properties, body| events << [back.reply_code, back.reply_text, properties.message_id, body] }
    exchange.publish('routed', routing_key: 'routed', mandatory: true)
    same following(events, 'an ack'), 'ack'
    exchange.publish('lost', routing_key: 'nowhere', mandatory: true, message_id: 'm1')
    same following(events, 'the return'), [312, 'NO_ROUTE', 'm1', 'lost']
    same following(events, 'its ack'), 'ack'
  end
end

def prefetch
  channels(2) do |channel, look|
    name = exclusive(channel).name
    looked = look.queue(name, passive: true)
    10.times { |number| look.default_exchange.publish(number.to_s, routing_key: name) }
    till('ten messages') { looked.message_count == 10 }
    channel.prefetch(3)
    held = Queue.new
    channel.queue(name, passive: true).subscribe(manual_ack: true) { |delivery, *| held << delivery.delivery_tag }
    [[3, 3], [6, 3], [9, 3], [10, 1]].each do |count, more|
      last = Array.new(more) { following(held, 'a delivery') }.last
      same looked.message_count, 10 - count
      channel.ack(last, true)
    end
    channel.close
    same looked.message_count, 0
  end
end

def death(delivery)
  delivery[1].headers['x-death'].first
end

def dead_lettered_to(grave)
  { 'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => grave.name }
end

def dead_letter
  channels do |channel|
    grave = exclusive(channel)
    queue = exclusive(channel, dead_lettered_to(grave))
    %w[0 1].each { |body| channel.default_exchange.publish(body, routing_key: queue.name) }
    channel.nack(one(queue).first.delivery_tag, false, true)
    again = one(queue)
    same [again.first.redelivered?, again.last], [true, '0']
    channel.nack(one(queue).first.delivery_tag, true, false)
    take(grave, 2).each do |dead|
      same death(dead).values_at('reason', 'queue', 'count'), ['rejected', queue.name, 1]
    end
  end
end

def priorities
  channels do |channel|
    queue = exclusive(channel, { 'x-max-priority' => 10 })
    [1, 5, 9, 3].each do |priority|
      channel.default_exchange.publish(priority.to_s, routing_key: queue.name, priority: priority)
    end
    till('four messages') { queue.message_count == 4 }
    same bodies(queue, 4), %w[9 5 3 1]
  end
end

def ttl
  channels do |channel|
    grave = exclusive(channel)
    by_message = exclusive(channel, dead_lettered_to(grave))
    by_queue = exclusive(channel, dead_lettered_to(grave).merge('x-message-ttl' => 40))
    channel.default_exchange.publish('message', routing_key: by_message.name, expiration: '40')
    channel.default_exchange.publish('queue', routing_key: by_queue.name)
    found = take(grave, 2).map { |dead| [dead.last, death(dead)['reason']] }
    same found.sort, [%w[message expired], %w[queue expired]]
    channel.default_exchange.publish('stays', routing_key: by_message.name)
    same bodies(by_message, 1), ['stays']
  end
end

def large_and_empty
  channels do |channel|
    queue = exclusive(channel)
    channel.default_exchange.publish(LARGE.dup, routing_key: queue.name)
    channel.default_exchange.publish('', routing_key: queue.name)
    received = bodies(queue, 2)
    same [received[0].b == LARGE, received[1]], [true, '']
  end
end

VALUES = {
  'bool' => true,
  'int' => -(2**31),
  'long' => 2**62,
  'double' => 2.5,
  'string' => 'text é',
  'timestamp' => Time.at(1_700_000_000),
  'table' => { 'nested' => { 'deep' => 1 } },
  'array' => [1, 'two', { 'four' => 4 }],
  'void' => nil
}.freeze

def table_values
  channels do |channel|
    queue = exclusive(channel)
    channel.default_exchange.publish('', routing_key: queue.name, headers: VALUES)
    received = take(queue, 1).first[1].headers
    received['string'].force_encoding('UTF-8') # bunny hands out octets
    same received, VALUES
  end
  "#{VALUES.keys.join(', ')}; it sends no decimals and octets as strings"
end

def headers_to_the_byte
  relay = Integer(control('relay'))
  connection = connect(port: relay)
  channel = connection.create_channel
  queue = exclusive(channel)
  channel.default_exchange.publish(
    'body',
    routing_key: queue.name,
    headers: VALUES,
    content_type: 'text/plain',
    content_encoding: 'utf-8',
    persistent: true,
    priority: 3,
    correlation_id: 'correlation',
    reply_to: 'reply',
    expiration: '60000',
    message_id: 'id',
    timestamp: 1_700_000_000,
    type: 'kind',
    user_id: 'guest',
    app_id: 'app'
  )
  take(queue, 1)
  compared = control('headers', relay)
  connection.close
  "#{compared} header"
end

def consumer_cancel
  channels(2) do |channel, other|
    queue = exclusive(channel)
    told = Queue.new
    consumer = queue.subscribe_with(
      Bunny::Consumer.new(channel, queue).tap { |each| each.on_cancellation { |cancel| told << cancel.consumer_tag } }
    )
    other.queue_delete(queue.name)
    same following(told, 'the notification'), consumer.consumer_tag
  end
end

def blocked
  channels do |channel, connection|
    told = Queue.new
    connection.on_blocked { |method| told << method.reason }
    connection.on_unblocked { told << 'unblocked' }
    queue = exclusive(channel)
    control('alarm', 'on')
    channel.default_exchange.publish('x', routing_key: queue.name)
    reason = following(told, 'connection.blocked')
    control('alarm', 'off')
    same following(told, 'connection.unblocked'), 'unblocked'
    return reason
  end
end

def recovery
  name = "#{PREFIX}-recovery"
  recovered = Queue.new
  connection = connect(recovery_completed: -> { recovered << true })
  channel = connection.create_channel
  exchange = channel.direct(name, durable: true)
  queue = channel.queue(name, durable: true).bind(exchange, routing_key: 'key')
  channel.prefetch(1)
  channel.confirm_select
  exchange.publish('before', routing_key: 'key', persistent: true)
  same channel.wait_for_confirms, true
  seen = Queue.new
  queue.subscribe(manual_ack: true) { |delivery, _, body| seen << [delivery.delivery_tag, body] }
  same following(seen, 'the first delivery').last, 'before' # and not acknowledged
  control('restart')
  following(recovered, 'the recovery')
  exchange.publish('after', routing_key: 'key', persistent: true)
  found = Array.new(2) do
    tag, body = following(seen, 'a delivery')
    channel.ack(tag)
    body
  end
  same found, %w[before after]
  queue.delete
  exchange.delete
  connection.close
  'by the library: connection, topology and consumer'
end

def heartbeats
  relay = Integer(control('relay'))
  lost = Queue.new
  handler = Object.new
  handler.define_singleton_method(:raise) { |error| lost << error }
  connection = connect(port: relay, heartbeat: 1, automatically_recover: false, session_error_handler: handler)
  sleep 3.5
  same connection.open?, true
  control('freeze', relay)
  reason = following(lost, 'the loss of the connection')
  control('dropped', relay)
  "#{reason.class}: #{reason.message}"
end

def over_tls(authority)
  tls = { tls: true, verify_peer: true, tls_ca_certificates: [ENV.fetch(authority)], tls_cert: nil, tls_key: nil }
  connect(port: TLS_PORT, host: 'localhost', automatically_recover: false, recover_from_connection_close: false, **tls)
end

def tls
  connection = over_tls('AMQP_CA')
  channel = connection.create_channel
  queue = exclusive(channel)
  channel.default_exchange.publish('secret', routing_key: queue.name)
  same bodies(queue, 1), ['secret']
  connection.close
  begin
    over_tls('AMQP_OTHER_CA')
  rescue OpenSSL::SSL::SSLError, Bunny::TCPConnectionFailed => e
    return e.class.name
  end
  raise 'a broker of an unknown authority was trusted'
end

def refused(kind)
  yield
  raise 'it was not refused'
rescue kind => e
  e
end

def errors
  connection = connect
  other = connect
  name = "#{PREFIX}-errors"
  connection.create_channel.queue(name, exclusive: true)
  channel = -> { connection.create_channel }
  refused(Bunny::NotFound) { channel.call.queue("#{PREFIX}-missing", passive: true) }
  refused(Bunny::PreconditionFailed) { channel.call.queue(name, exclusive: true, auto_delete: true) }
  closed = Queue.new
  unknown = channel.call
  unknown.on_error { |_, close| closed << close.reply_code }
  unknown.basic_ack(42, false)
  same following(closed, 'the error of the channel'), 406
  refused(Bunny::ResourceLocked) { other.create_channel.queue(name, passive: true) }
  [connection, other].each(&:close)
  options = { automatically_recover: false, recover_from_connection_close: false }
  refused(Bunny::AuthenticationFailureError) { connect(password: 'wrong', **options) }
  missing = refused(Bunny::Exception) { connect(vhost: 'missing', **options) }
  "NotFound, PreconditionFailed, ResourceLocked, AuthenticationFailureError, #{missing.class.name}"
end

play(
  'tutorial-1-hello' => method(:hello),
  'tutorial-2-work-queues' => method(:work_queues),
  'tutorial-3-publish-subscribe' => method(:publish_subscribe),
  'tutorial-4-routing' => method(:routing),
  'tutorial-5-topics' => method(:topics),
  'tutorial-6-rpc' => method(:rpc),
  'tutorial-7-confirms' => method(:confirms),
  'confirm-window' => method(:confirm_window),
  'mandatory-return' => method(:mandatory),
  'prefetch-multiple-ack' => method(:prefetch),
  'nack-dead-letter' => method(:dead_letter),
  'priorities' => method(:priorities),
  'ttl' => method(:ttl),
  'large-and-empty' => method(:large_and_empty),
  'table-values' => method(:table_values),
  'headers-to-the-byte' => method(:headers_to_the_byte),
  'consumer-cancel' => method(:consumer_cancel),
  'connection-blocked' => method(:blocked),
  'recovery' => method(:recovery),
  'heartbeats' => method(:heartbeats),
  'tls' => method(:tls),
  'errors' => method(:errors)
)
