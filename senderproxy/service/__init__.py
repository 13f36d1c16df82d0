"""Parts of the running service: listeners, spool, status, housekeeping, loop monitor."""
