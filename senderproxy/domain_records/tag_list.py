"""Tag lists of DKIM keys and DMARC records: `name=value; name=value`. PURE.

Guarantees: time in proportion to the length. RFC 6376 section 3.2, RFC 7489 section 6.3.
"""

import re
from collections.abc import Mapping
from typing import Final

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BLANKS: Final = " \t\r\n"


class TagListError(ValueError):
    """Not a tag list; `args[0]` is the first part that is none."""


def parse_tags(text: str) -> Mapping[str, str]:
    """The values by their names, in order. Raises TagListError for a part without `=` and for a repeated name."""
    tags: dict[str, str] = {}
    parts = text.split(";")
    for part in parts[:-1] if not parts[-1].strip(_BLANKS) else parts:
        name, equals, value = part.partition("=")
        name = name.strip(_BLANKS)
        if not equals or _NAME.fullmatch(name) is None or name in tags:
            raise TagListError(part.strip(_BLANKS))
        tags[name] = value.strip(_BLANKS)
    return tags


def has_version(text: str, version: str) -> bool:
    """True if the first tag is `v=` with this version."""
    name, equals, value = text.partition(";")[0].partition("=")
    return bool(equals) and name.strip(_BLANKS) == "v" and value.strip(_BLANKS) == version
