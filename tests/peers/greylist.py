"""A policy server that greylists, as Postfix asks one (SMTPD_POLICY_README): the first try of each recipient is put off.

Guarantees: only recipients whose local part begins with `grey-` are put off, each once; gone when left.
"""

import socketserver
import threading
from types import TracebackType
from typing import Self

from tests.peers.process import LOOPBACK


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Asked)
        self.known: set[str] = set()
        self.lock = threading.Lock()


class _Asked(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """One connection of Postfix's; several questions on it."""
        assert isinstance(self.server, _Server)
        asked: dict[str, str] = {}
        for raw in self.rfile:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if line:
                name, _, value = line.partition("=")
                asked[name] = value
                continue
            self.wfile.write(f"action={self._answer(asked.get('recipient', ''))}\n\n".encode())
            asked.clear()

    def _answer(self, recipient: str) -> str:
        assert isinstance(self.server, _Server)
        with self.server.lock:
            if not recipient.startswith("grey-") or recipient in self.server.known:
                return "dunno"
            self.server.known.add(recipient)
            return "defer_if_permit 4.2.0 Greylisted, please come back"


class Greylist:
    """The server, for the length of a `with` block."""

    def __enter__(self) -> Self:
        self._server = _Server()
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def put_off(self) -> set[str]:
        """Who was put off."""
        return set(self._server.known)
