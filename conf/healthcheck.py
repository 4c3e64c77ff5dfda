"""Whether a broker answers on this machine: for HEALTHCHECK of a container, and for any other supervisor.

    python healthcheck.py [--host HOST] [--port PORT] [--timeout SECONDS]

Speaks as much AMQP as it takes to tell a broker from whatever else may listen there: the protocol header, which a
broker answers with `connection.start`. No user and no password are needed. Exit status 0 if it answers, else 1,
after a line that says why. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import socket
import sys

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
# A method frame of channel 0; behind its length, class 10 and method 10.
FRAME_HEAD = b"\x01\x00\x00"
CONNECTION_START = b"\x00\x0a\x00\x0a"


def problem_with(host: str, port: int, seconds: float) -> str:
    """What is wrong with the broker there, "" if nothing is."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            connection.sendall(PROTOCOL_HEADER)
            answer = b""
            while len(answer) < 11:
                received = connection.recv(11 - len(answer))
                if not received:
                    return "it closed the connection"
                answer += received
    except OSError as error:
        return str(error)
    if answer[:3] != FRAME_HEAD or answer[7:] != CONNECTION_START:
        return "it does not speak AMQP 0-9-1"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask whether an AMQP broker answers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5672)
    parser.add_argument("--timeout", type=float, default=4.0, metavar="SECONDS")
    options = parser.parse_args()
    problem = problem_with(options.host, options.port, options.timeout)
    if problem:
        print(f"{options.host}:{options.port}: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
