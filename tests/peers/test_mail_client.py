import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.peers.mail_client import MailClient
from tests.peers.process import LOOPBACK


@pytest.mark.parametrize("reply", [b"221 2.0.0 Bye\r\n", b"421 4.3.2 shutting down\r\n", b""])
def test_whatever_the_server_replies_to_quit_the_session_ends(reply: bytes) -> None:
    with socket.create_server((LOOPBACK, 0)) as listening, ThreadPoolExecutor(1) as somebody:

        def serve() -> bytes:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as commands:
                connection.sendall(b"220 office.test ESMTP\r\n")
                received = commands.readline()
                connection.sendall(reply)
                return received

        served = somebody.submit(serve)
        with MailClient(LOOPBACK, listening.getsockname()[1], timeout=60) as client:
            pass
        assert served.result(60).upper() == b"QUIT\r\n"
        assert client.sock is None
