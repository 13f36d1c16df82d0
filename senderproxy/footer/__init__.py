"""Footers: a text that is added to the mail of some senders."""
