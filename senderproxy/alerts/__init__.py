"""Alerts: messages to the operator about conditions that begin, get worse and end."""
