"""Backups: one sealed file with the configuration, the vault, the queue and the learned state."""
