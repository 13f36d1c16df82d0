"""The harness's own tests have a bench, too."""

from tests.peers.bench import bench, pytest_runtest_makereport

__all__ = ["bench", "pytest_runtest_makereport"]
