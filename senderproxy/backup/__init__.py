"""Backups: one sealed file with the configuration, the vault, the queue and what the service has learned."""
