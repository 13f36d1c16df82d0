"""The 421 replies of a service that cannot start, on a socket as a `.socket` unit opens it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.packages import PROJECT

# As systemd starts it: the socket is descriptor 3, the variables name this process.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="senderproxy.socket")
os.execv(sys.executable, [sys.executable, "-m", "senderproxy", "--config", sys.argv[2], "run"])
"""


class Refusing:
    """A started service whose configuration is not usable."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.config = folder / "senderproxy.toml"
        self.config.write_text(configuration)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notify"))
        self.notices.settimeout(60)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(self.sock.fileno()), str(self.config)],
            cwd=PROJECT,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[self.sock.fileno()],
        )

    def wait_until_ready(self) -> str:
        while "READY=1" not in (notice := self.notices.recv(4096).decode()):
            pass
        return notice

    def greeting(self) -> str:
        with socket.create_connection(self.sock.getsockname(), timeout=60) as client:
            return b"".join(iter(lambda: client.recv(512), b"")).decode()

    def ended(self) -> tuple[int, str]:
        _out, err = self.process.communicate(timeout=60)
        return self.process.returncode, err

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.sock.close()
        self.notices.close()


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Refusing]:
    service = Refusing(tmp_path, "[[listeners\n")
    yield service
    service.close()


def test_each_client_gets_421_and_the_status_has_the_cause(refusing: Refusing) -> None:
    notice = refusing.wait_until_ready()
    assert "STATUS=cannot start, all clients get 421: The configuration" in notice
    for _ in range(40):
        assert refusing.greeting() == (
            f"421 4.3.5 {socket.gethostname()} not in service: its configuration is not usable; try again later\r\n"
        )
    silent = [socket.create_connection(refusing.sock.getsockname(), timeout=60) for _ in range(20)]
    assert refusing.greeting().startswith("421 ")
    for client in silent:
        client.close()
    refusing.process.send_signal(signal.SIGTERM)
    code, err = refusing.ended()
    assert code == 0
    assert "To fix: " in err
    assert "Traceback" not in err


def test_a_changed_configuration_ends_it_for_another_start(refusing: Refusing) -> None:
    refusing.wait_until_ready()
    refusing.config.write_text("[[listeners]]\n")
    assert refusing.ended()[0] == 75


def test_a_hangup_ends_it_for_another_start(refusing: Refusing) -> None:
    refusing.wait_until_ready()
    refusing.process.send_signal(signal.SIGHUP)
    assert refusing.ended()[0] == 75


def test_without_a_socket_unit_the_service_ends_at_once(tmp_path: Path) -> None:
    config = tmp_path / "senderproxy.toml"
    config.write_text("[[listeners\n")
    done = subprocess.run(
        [sys.executable, "-m", "senderproxy", "--config", str(config), "run"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 78
