"""An SMTP server on loopback that records what it gets, with replies chosen by the test."""

import socket
import threading
from collections.abc import Mapping
from io import BufferedRWPair
from types import TracebackType
from typing import Self


class RecordingRelay:
    """One connection after the other, each in full; `replies` by the beginning of a command or `end` for the message."""

    def __init__(self, replies: Mapping[str, str] | None = None) -> None:
        self._replies = dict(replies or {})
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []  # as sent: with doubled dots, without the end
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def recipients(self) -> list[bytes]:
        """Return the addresses of RCPT commands."""
        return [line[9:-1] for line in self.commands if line.startswith(b"RCPT TO:<")]

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                self._converse(stream)

    def _converse(self, stream: BufferedRWPair) -> None:
        def reply(key: str, usual: str) -> str:
            text = self._replies.get(key, usual)
            if text:
                stream.write(text.replace("\n", "\r\n").encode() + b"\r\n")
                stream.flush()
            return text

        reply("connect", "220 relay.test ESMTP")
        while line := stream.readline():
            command = line.rstrip(b"\r\n")
            assert line.endswith(b"\r\n"), line
            self.commands.append(command)
            word = command.split(b":")[0].split(b" <")[0].decode()
            if word.startswith("EHLO"):
                reply("EHLO", "250-relay.test\n250-SIZE 1000000000\n250-8BITMIME\n250 SMTPUTF8")
            elif word == "DATA":
                if not reply("DATA", "354 go on").startswith("354"):
                    continue
                content = bytearray()
                while (part := stream.readline()) and part != b".\r\n":
                    content += part
                if not part:
                    return
                self.messages.append(bytes(content))
                if not reply("end", "250 2.0.0 queued"):
                    return
            elif word == "QUIT":
                reply("QUIT", "221 2.0.0 bye")
                return
            else:
                reply(command.decode(errors="replace").partition(">")[0].partition("<")[2] or word, "250 2.0.0 OK")
