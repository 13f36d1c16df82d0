"""Acceptance, delivery and queue of messages. Uses the interfaces in relay.ports, never a socket or a file."""
