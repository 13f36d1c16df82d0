"""Letters, and an office client that hands in many of them over one connection."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.peers.mail_client import MailClient
from tests.peers.process import LOOPBACK


@dataclass(frozen=True)
class Letter:
    """One message: who wrote it, to whom, and a name by which it is found again."""

    author: str
    recipients: tuple[str, ...]
    message_id: str
    reverse_path: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes, with a body that shows damage: dots at line starts, and a line of 8-bit text."""
        lines = [
            f"From: {self.author}",
            f"To: {', '.join(self.recipients)}",
            "Date: Mon, 23 Nov 2026 09:00:00 +0100",
            f"Message-ID: <{self.message_id}>",
            f"Subject: letter {self.message_id}",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
            "",
            "Grüße aus dem Büro",
            ".",
            "..two dots",
            f"letter {self.message_id} ends here",
            "",
        ]
        return "\r\n".join(lines).encode()

    @property
    def body(self) -> bytes:
        """What stands behind the header."""
        return self.content.split(b"\r\n\r\n", 1)[1]


def hand_in(port: int, letters: Iterable[Letter]) -> None:
    """Submit the letters one after the other over one connection, as a person's mail program would."""
    with MailClient(LOOPBACK, port, local_hostname="desk.office.test", timeout=60) as client:
        for letter in letters:
            reverse_path = letter.author if letter.reverse_path is None else letter.reverse_path
            refused = client.sendmail(reverse_path, list(letter.recipients), letter.content, ["BODY=8BITMIME"])
            assert not refused, refused


def letters_from(authors: Sequence[str], count: int, recipient_domain: str = "kunde.test") -> list[Letter]:
    """Return that many letters; the authors take turns."""
    return [
        Letter(authors[number % len(authors)], (f"rcpt{number}@{recipient_domain}",), f"{number}@desk.office.test")
        for number in range(count)
    ]


def hand_over(port: int, reverse_path: str, recipient: str, content: bytes) -> tuple[int, str]:
    """Submit these octets as they are; return the answer to the final dot, or the first refusal."""
    with MailClient(LOOPBACK, port, local_hostname="desk.office.test", timeout=60) as client:
        client.ehlo()
        for command in (f"MAIL FROM:<{reverse_path}>", f"RCPT TO:<{recipient}>", "DATA"):
            code, text = client.docmd(command)
            if code >= 400:
                return code, text.decode("ascii")
        assert content.endswith(b"\r\n")
        client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        code, text = client.getreply()
        return code, text.decode("ascii")
