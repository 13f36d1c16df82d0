"""A name server on loopback whose records a test changes while it runs."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from senderproxy.dns_client.client import DnsClient

Records = Mapping[tuple[str, str], list[str]]  # name and type -> values in the form of a zone file


@dataclass
class NameServer:
    """Answers by UDP. A name without any record does not exist; a CNAME is followed."""

    records: Records
    port: int = 0
    is_silent: bool = False
    failing: set[str] = field(default_factory=set)  # names that get SERVFAIL
    asked: Counter[str] = field(default_factory=Counter)
    last: tuple[int, str, str] | None = None  # a query that is repeated, since our answer came late, is one

    def client(self) -> DnsClient:
        return DnsClient(("127.0.0.1",), self.port)

    def answer(self, octets: bytes) -> bytes:
        query = dns.message.from_wire(octets)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        name, kind = query.question[0].name.to_text(True).lower(), dns.rdatatype.to_text(query.question[0].rdtype)
        before, self.last = self.last, (query.id, name, kind)
        self.asked[name] += self.last != before
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()
        for _ in range(8):
            alias = self.records.get((name, "CNAME"))
            if not alias or kind == "CNAME":
                break
            response.answer.append(_rrset(name, "CNAME", alias))
            name = alias[0].rstrip(".")
        if values := self.records.get((name, kind)):
            response.answer.append(_rrset(name, kind, values))
        elif not any(known == name and found for (known, _), found in self.records.items()):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()


def _rrset(name: str, kind: str, values: list[str]) -> dns.rrset.RRset:
    if kind == "TXT":
        values = [" ".join(f'"{_quoted(text[at : at + 255])}"' for at in range(0, len(text), 255)) for text in values]
    return dns.rrset.from_text(dns.name.from_text(name), 60, "IN", kind, *values)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@contextmanager
def name_server(records: Records) -> Iterator[NameServer]:
    """A name server with these records."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        server = NameServer(records, sock.getsockname()[1])

        def serve() -> None:
            while True:
                octets, peer = sock.recvfrom(4096)
                if octets == b"leave":
                    return
                if not server.is_silent:
                    sock.sendto(server.answer(octets), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"leave", sock.getsockname())
            thread.join(10)
