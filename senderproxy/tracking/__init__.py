"""Tracking of messages: records, events, their serialization and their timeline. PURE."""
