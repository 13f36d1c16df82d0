"""A PostgreSQL server for these tests."""

from collections.abc import Iterator

import pytest

from tests.peers.packages import POSTGRESQL
from tests.peers.process import why_not_here
from tests.senderproxy.spool.postgresql.open_spool import Databases, running_databases


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    if why := why_not_here(POSTGRESQL / "postgres"):
        pytest.skip(why)
    with running_databases() as found:
        yield found
