"""A name server of the tests on an address and port of loopback: the records of a zone, and no other name.

Guarantees: answers from when the context is entered; nothing is left afterwards.
Not here: a name server that fails (journeys.silent_name_server).
"""

import socketserver
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

PORT: Final = 53  # of all queries of the C library and of dnspython, as resolv.conf has no port


class NameServer:
    """A name server over UDP; `records` has the data of each record by name and type, several ones in lines."""

    name = "name server"

    def __init__(self, address: str, records: Mapping[tuple[str, str], str]) -> None:
        self._records = records
        self._asked: list[str] = []
        self._server = socketserver.ThreadingUDPServer((address, PORT), self._handler(), bind_and_activate=False)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        try:
            self._server.server_bind()
        except OSError:
            self._server.server_close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def log(self) -> str:
        """Return the queries, one a line."""
        return "\n".join(self._asked)

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        answer = self._answer

        class Handler(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                self.wfile.write(answer(self.rfile.read()))

        return Handler

    def _answer(self, octets: bytes) -> bytes:
        query = dns.message.from_wire(octets)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self._asked.append(f"{name} {kind}")
        if data := self._records.get((name, kind)):
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *data.split("\n")))
        elif not any(known == name for known, _kind in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()
