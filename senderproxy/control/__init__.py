"""Control of the running service: the operator's socket, systemd, crash records, settings of the process."""
