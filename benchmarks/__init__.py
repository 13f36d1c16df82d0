"""Relays side by side: load -> relay -> smarthost on loopback, in turns. `make bench` runs it; see __main__."""
