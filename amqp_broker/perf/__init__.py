"""The load generator behind `amqp-broker perf`: producers and consumers for any AMQP 0-9-1 broker.

A leaf of the package: it shares no code with the broker it measures, so that a mistake in one cannot hide in
the other. The flags and their meaning follow RabbitMQ's PerfTest; `docs/perf.md` describes them and what is
measured.
"""
