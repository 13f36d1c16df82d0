"""senderproxy: every message leaves logged in as the mailbox that owns its author."""

__version__ = "0.1.0"
