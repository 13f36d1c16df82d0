"""The messages of the benchmark, and the facts that the smarthost reads from them.

Guarantees: each message has its name and its sender in a header field, and ends in a line that proves completeness. The
smarthost can therefore detect lost, doubled, truncated and wrongly authenticated messages of any relay.
"""

import re
from typing import Final

DOMAIN: Final = "office.example"
ELSEWHERE: Final = "customer.example"
PASSWORD: Final = "geheim-bench"

END: Final = b"-- the letter ends here --\r\n"
NAME: Final = re.compile(rb"^X-Bench: ([\w.-]+) s(\d+)\r\n", re.MULTILINE)
HEADER_LIMIT: Final = 16_384
LINE: Final = b"VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZywgYWdhaW4gYW5kIGFnYWlu\r\n"[:76] + b"\r\n"


def address(sender: int) -> str:
    """Return the mailbox, also the login, of this number."""
    return f"s{sender:04d}@{DOMAIN}"


def sender_of(login: str) -> int:
    """Return the number of a mailbox; -1 if it is not one of the benchmark's."""
    local_part, _, domain = login.partition("@")
    return int(local_part[1:]) if domain == DOMAIN and re.fullmatch(r"s\d{4,}", local_part) else -1


def recipients(count: int, name: str) -> list[str]:
    """Return that many forward-paths for the message of this name."""
    return [f"r{number}.{name}@{ELSEWHERE}" for number in range(count)]


def header(name: str, sender: int) -> bytes:
    """Return the header section with its blank line; complete, so that no provider needs a repair."""
    return (
        f"From: {address(sender)}\r\nTo: r0.{name}@{ELSEWHERE}\r\nSubject: letter {name}\r\n"
        f"Date: Mon, 23 Nov 2026 09:00:00 +0100\r\nMessage-ID: <{name}@{DOMAIN}>\r\nX-Bench: {name} s{sender}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()


def body(size: int) -> bytes:
    """Return a body of about this size, in lines like base64."""
    return LINE * max(1, (size - len(END)) // len(LINE)) + END
