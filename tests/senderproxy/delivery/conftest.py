"""Fixtures for tests with real peers."""

from tests.peers.bench import bench, pytest_runtest_makereport

__all__ = ["bench", "pytest_runtest_makereport"]
