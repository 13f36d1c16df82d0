"""Fixtures: an authority of the tests, and a client that knows no proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from senderproxy.clock import SystemClock
from senderproxy.http_client.client import HttpClient
from tests.peers.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def client() -> Iterator[HttpClient]:
    made = HttpClient(SystemClock(), {})
    yield made
    made.close()
