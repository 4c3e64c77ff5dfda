"""What a scenario needs from outside, for every language alike: a line sent over TCP, a line that answers.

    restart              kill -9 the broker and start it; answered when it takes connections again
    alarm on|off         raise or end an alarm that blocks publishers
    relay                a relay to the broker; the answer is `ok PORT`
    freeze PORT          let that relay fall silent
    dropped PORT         wait until the broker has closed its side of the silent relay
    headers PORT         whether every content header came back through the relay as it was sent

The answer is `ok` with a word or two, or `error` with the reason.
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
from typing import Final

from interop.runner.brokers import Broker
from interop.runner.relay import Relay

DROPPED_WITHIN: Final = 30.0


class Control:
    """port: where it takes lines, on 127.0.0.1, from the first moment until `close`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._relays: dict[int, Relay] = {}
        control = self

        class Lines(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(f"{control.answer(line.decode().split())}\n".encode())

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Lines)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, words: list[str]) -> str:
        try:
            match words:
                case ["restart"]:
                    self._broker.kill()
                    self._broker.start()
                    return "ok"
                case ["alarm", "on" | "off" as state]:
                    self._broker.alarm(on=state == "on")
                    return "ok"
                case ["relay"]:
                    relay = Relay(self._broker.port)
                    self._relays[relay.port] = relay
                    return f"ok {relay.port}"
                case ["freeze", port]:
                    self._relays[int(port)].freeze()
                    return "ok"
                case ["dropped", port]:
                    if self._relays[int(port)].wait_dropped(DROPPED_WITHIN):
                        return "ok"
                    return f"error the broker kept the silent connection for {DROPPED_WITHIN:.0f} s"
                case ["headers", port]:
                    count, difference = self._relays[int(port)].compare_headers()
                    return f"error {difference}" if difference else f"ok {count}"
        except Exception as error:  # the program that asked is told, whatever it was
            return f"error {type(error).__name__}: {error}".replace("\n", " ")
        return f"error unknown request {' '.join(words)}"

    def end_alarm(self) -> None:
        """Take back an alarm that a scenario left."""
        with contextlib.suppress(Exception):
            if self._broker.alarmed:
                self._broker.alarm(on=False)

    def close(self) -> None:
        self.end_alarm()
        self._server.shutdown()
        self._server.server_close()
        for relay in self._relays.values():
            relay.close()
