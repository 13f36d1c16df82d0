"""Changes to a message that its provider requires. PURE."""
