"""Conditions of the service: one list of what needs an operator, for status, check, log and systemd."""
