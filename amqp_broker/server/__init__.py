"""The outer shell: sockets, tasks, signals, and the loop that makes a turn durable and sends its answers."""
