"""What is said on the operator's socket: one JSON object on a line, one JSON object on a line back.

`{"do": "status"}`, `{"do": "resume", "account": "anna"}`, `{"do": "reload"}`; the answer has `"ok": true` or
`"ok": false` with `"error"` and `"hint"` in words for a person. No secret travels here.
"""

import json
from typing import Any, Final, TypeAlias

LINE_LIMIT: Final = 4 * 1024 * 1024  # octets; a status of some thousand accounts fits

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]


def encode(entry: Request | Answer) -> bytes:
    """One line."""
    return json.dumps(entry, ensure_ascii=True, default=str).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """One line read; raises ValueError where it is no JSON object."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    return entry
