"""SMTP relay that sends each message with the login of the account that owns its author."""

__version__ = "0.1.0"
