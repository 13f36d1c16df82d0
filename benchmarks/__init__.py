"""Comparison of relays: load -> relay -> smarthost on loopback. `make bench` runs it; see `benchmarks.__main__`."""
