# frozen_string_literal: true

# Where the broker is, the control line, and the JSON line for each scenario. Knows no client library.

require 'json'
require 'socket'

HOST = ENV.fetch('AMQP_HOST')
PORT = Integer(ENV.fetch('AMQP_PORT'))
TLS_PORT = Integer(ENV.fetch('AMQP_TLS_PORT'))
PREFIX = ENV.fetch('AMQP_PREFIX')
LARGE = ((0..255).to_a.pack('C*') * 32_768).freeze
PATIENCE = 30

class Cannot < StandardError; end

def same(actual, expected)
  raise "#{actual.inspect[0, 300]} instead of #{expected.inspect[0, 300]}" unless actual == expected
end

def control(*words)
  TCPSocket.open('127.0.0.1', Integer(ENV.fetch('AMQP_CONTROL'))) do |line|
    line.puts(words.join(' '))
    answer = line.gets.to_s.strip
    raise "#{words.join(' ')}: #{answer}" unless answer.start_with?('ok')

    answer[2..].strip
  end
end

def till(what)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
  loop do
    found = yield
    return found if found
    raise "not within #{PATIENCE} s: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

    sleep 0.02
  end
end

# The next thing that another thread put into a queue.
def following(queue, what)
  till(what) { !queue.empty? }
  queue.pop
end

def fibonacci(number)
  number < 2 ? number : fibonacci(number - 1) + fibonacci(number - 2)
end

def play(scenarios)
  ARGV.each do |name|
    outcome = 'ok'
    begin
      detail = scenarios.fetch(name).call
    rescue Cannot => e
      outcome = 'cannot'
      detail = e.message
    rescue Exception => e # rubocop:disable Lint/RescueException
      outcome = 'failed'
      detail = "#{e.class}: #{e.message}"[0, 400]
      warn e.full_message
    end
    puts JSON.generate(scenario: name, outcome: outcome, detail: detail.is_a?(String) ? detail : '')
    $stdout.flush
  end
end
