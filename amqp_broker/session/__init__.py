"""What AMQP 0-9-1 means: the states of a connection and its channels, and a handler for each method."""
