"""Every journey has a bench with the peers' logs shown when it fails."""

from tests.peers.bench import bench, pytest_runtest_makereport

__all__ = ["bench", "pytest_runtest_makereport"]
