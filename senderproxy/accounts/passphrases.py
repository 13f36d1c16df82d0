"""The rule for new passphrases of vaults and of copies of them. PURE.

Not here: the question (cli.terminal), existing passphrases, which are taken as they are.
"""

import unicodedata
from typing import Final

from senderproxy.translation import _

SHORTEST: Final = 12  # characters; each guess costs an attacker 0.2 s and 64 MiB (docs/vault.md)


def passphrase_problem(text: str) -> str:
    """The reason to refuse a new passphrase, as a sentence; empty for a good one."""
    if len(unicodedata.normalize("NFC", text).strip()) >= SHORTEST:
        return ""
    return _("A new passphrase needs {least} characters or more, such as five random words.").format(least=SHORTEST)
