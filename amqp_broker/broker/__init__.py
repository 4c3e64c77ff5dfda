"""The model: virtual hosts, exchanges, bindings, queues, consumers and messages, without I/O or protocol."""
