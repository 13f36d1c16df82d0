"""A token endpoint in a thread, for commands: gives `access`, or the prepared answers, and records the forms.

A prepared answer that is None is none: the connection ends.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs


class TokenServer(ThreadingHTTPServer):
    """`answers` are for the next requests, one each; then `access` is given, or `refusal`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.forms: list[dict[str, str]] = []
        self.access = "geheim-token"
        self.refusal: dict[str, str] = {}
        self.answers: list[dict[str, Any] | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, form: dict[str, str]) -> dict[str, Any] | None:
        self.forms.append(form)
        if self.answers:
            return self.answers.pop(0)
        return self.refusal or {"access_token": self.access, "expires_in": 3600}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        entry = cast("TokenServer", self.server).answer(form)
        if entry is None:
            self.close_connection = True
            return
        answer = json.dumps(entry).encode()
        self.send_response(400 if "error" in entry else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        """Nothing is printed."""


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """A token endpoint while the block runs."""
    with TokenServer() as made:
        thread = threading.Thread(target=made.serve_forever, name="token-server")
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
