"""Alerts: messages to the operator about new, worse and ended conditions."""
