"""What happened to a message: events, the record they add up to, and the story told from them. PURE."""
