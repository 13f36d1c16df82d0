"""The field's words as types: bytes in, bytes out, nothing that touches the world."""
