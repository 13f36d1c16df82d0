"""Findings of `check` about own keys for DKIM: one for each key in the vault, by its record in the DNS.

Not here: the records of providers that sign by themselves (cli.check_dns), the keys (cli.dkim).
"""

from collections.abc import Callable, Iterator

from senderproxy.accounts.dkim_key import StoredDkimKey, read_dkim_keys
from senderproxy.accounts.record import DKIM_KEY
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.dkim import look_at, states_of_keys
from senderproxy.cli.findings import Finding, Level
from senderproxy.config.model import Config
from senderproxy.domain_records.own_key import KeyLook, KeyRecord, words_of_look
from senderproxy.translation import _


def check_dkim_keys(config: Config, accounts: VaultAccounts, progress: Callable[[str], None]) -> Iterator[Finding]:
    """The findings. A key that does not sign yet is no fault: its record may be on its way."""
    keys = read_dkim_keys(accounts.records(DKIM_KEY))
    states, _problem = states_of_keys(config) if keys else ({}, "")
    for one in keys:
        progress(_("Looking up the DNS records of {domain} ...").format(domain=one.key.domain))
        state = states.get((one.key.domain, one.key.selector))
        yield _finding(one, signs=state is not None and bool(state["signs"]))


def _finding(one: StoredDkimKey, *, signs: bool) -> Finding:
    key, look = one.key, look_at(one)
    subject = _("DKIM key {selector} of {domain}").format(selector=key.selector, domain=key.domain)
    if not isinstance(look, KeyLook):
        return Finding(Level.UNKNOWN, subject, _("DNS lookup failed: {error}").format(error=look))
    if look.problem is KeyRecord.RIGHT:
        return Finding(Level.OK, subject, words_of_look(look, key.name, key.domain))
    level = Level.WRONG if signs else Level.ADVICE
    hint = _("Enter its record: senderproxy dkim show {domain}").format(domain=key.domain)
    return Finding(level, subject, words_of_look(look, key.name, key.domain), hint)
