"""DKIM signatures of outgoing messages. PURE."""
