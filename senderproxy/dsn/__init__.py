"""Reports: how the author is told what became of a message (RFC 3464). PURE."""
