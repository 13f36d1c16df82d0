"""Spool engines. One package for each database: it implements relay.ports.Spool."""
