"""How the running service is asked: a local socket for the operator, and what systemd is told."""
