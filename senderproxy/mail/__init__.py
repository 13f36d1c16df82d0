"""Types for addresses, envelopes, headers, messages, replies and outcomes. PURE."""
