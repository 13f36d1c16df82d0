"""Choice of the Sent folder among the folders of a mailbox.

Guarantees: no I/O. A folder that the server marks as \\Sent comes first, then the usual names, German and English, in
the mailbox's own namespace. Names stay as the server spells them, in modified UTF-7.
Not here: the commands (sent_copy.session). RFC 6154, RFC 2342, RFC 3501 section 5.1.3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from imapclient import imap_utf7

NEW_FOLDER: Final = "Sent"  # of a mailbox without any; RFC 6154's example, and Thunderbird's name

# Names that webmailers and mail programs give it, the more usual ones first; compared without case.
_USUAL: Final = tuple(
    name.casefold()
    for name in (
        "Gesendete Objekte",  # IONOS, Outlook
        "Gesendet",  # GMX, WEB.DE, Strato
        "Sent",
        "Sent Items",
        "Gesendete Elemente",  # Outlook
        "Sent Messages",  # Apple Mail
        "Gesendete Nachrichten",
        "Gesendete E-Mails",
        "Gesendete Mails",
        "Sent Mail",
        "INBOX.Sent",  # where the server names no namespace
        "INBOX/Sent",
        "[Gmail]/Gesendet",
        "[Gmail]/Sent Mail",
        "[Google Mail]/Gesendet",
        "[Google Mail]/Sent Mail",
    )
)
_UNUSABLE: Final = frozenset({b"\\noselect", b"\\nonexistent"})


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of a mailbox. `name`: as the server spells it. `flags`: in lower case."""

    name: bytes
    delimiter: str | None
    flags: frozenset[bytes]

    @property
    def is_usable(self) -> bool:
        return not self.flags & _UNUSABLE and is_quotable(self.name)


def is_quotable(name: bytes) -> bool:
    """True for a name that a quoted string can have: ASCII without control characters."""
    return bool(name) and name.isascii() and all(32 <= octet < 127 for octet in name)


def encode_name(name: str) -> bytes:
    """The name in modified UTF-7."""
    return bytes(imap_utf7.encode(name))


def decode_name(name: bytes) -> str:
    """The name for people. One that is not in modified UTF-7 stays as it is."""
    try:
        text = imap_utf7.decode(name)
    except (ValueError, LookupError):
        text = name.decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def special_folder(folders: Iterable[Folder]) -> Folder | None:
    """The folder that the server marks as the one for sent mail."""
    return next((one for one in folders if b"\\sent" in one.flags and one.is_usable), None)


def usual_folder(folders: Sequence[Folder], prefixes: Sequence[bytes]) -> Folder | None:
    """The folder with the most usual name, directly in a namespace with one of these prefixes."""
    found: dict[str, Folder] = {}
    for folder in folders:
        if folder.is_usable:
            for prefix in (b"", *prefixes):
                if folder.name[: len(prefix)].lower() == prefix.lower():
                    found.setdefault(decode_name(folder.name[len(prefix) :]).casefold(), folder)
    return next((found[name] for name in _USUAL if name in found), None)


def own_prefix(prefixes: Sequence[bytes], folders: Sequence[Folder]) -> bytes:
    """The prefix of a new folder on a server that names no namespace: that of all folders but the inbox, if any."""
    others = [folder.name.lower() for folder in folders if folder.name.lower() != b"inbox"]
    return next((one for one in prefixes if others and all(name.startswith(one.lower()) for name in others)), b"")


def with_prefix(name: str, prefix: bytes) -> bytes:
    """The name in modified UTF-7, in the mailbox's own namespace; a prefix that it has already is not added."""
    encoded = encode_name(name)
    return encoded if encoded.lower().startswith(prefix.lower()) else prefix + encoded
