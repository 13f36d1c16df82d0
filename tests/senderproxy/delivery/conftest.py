"""Some of the courier's tests have real peers on a bench."""

from tests.peers.bench import bench, pytest_runtest_makereport

__all__ = ["bench", "pytest_runtest_makereport"]
