"""`senderproxy dkim`: keys for DKIM signatures of own domains, in the vault.

Guarantees: no command shows a private key. Where the provider signs, no key is made. A domain has at most two keys: the
one that signs, and the one that follows it.
Not here: the shapes of the DNS record (cli.dkim_record), the start of the signatures, which the running service decides
(service.dkim_watch).
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.dkim_key import KEYS_OF_DOMAIN, StoredDkimKey, new_dkim_key, new_selector, read_dkim_keys
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import DKIM_KEY, StoredRecord
from senderproxy.cli.common import open_accounts, open_editor, pickup_note, read_config, typed_pattern
from senderproxy.cli.dkim_record import print_record
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.screen import printable
from senderproxy.cli.terminal import (
    confirm,
    print_error,
    print_hint,
    print_json,
    print_paragraph,
    print_progress,
    print_table,
    progress,
)
from senderproxy.cli.times import local_time
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.own_key import KeyLook, KeyRecord, look_at_key, words_of_look
from senderproxy.errors import SenderproxyError
from senderproxy.routing.account import Account
from senderproxy.translation import _

_WAIT: Final = 10.0  # minutes; a hoster's form takes effect within some
_INTERVAL: Final = 15.0  # seconds between two looks
_SERVICE_TIMEOUT: Final = 40.0  # seconds for an answer of the service, which looks at two records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy dkim`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    setup = actions.add_parser("setup", help=_("make a key for a domain, and show its DNS record"))
    _add_domain(setup)
    _add_selector(setup, _("name of the key in the DNS (default: sp and the day, such as sp20261129)"))
    setup.set_defaults(run=run_setup)

    show = actions.add_parser("show", help=_("show the DNS records of a domain's keys again"))
    _add_domain(show)
    show.set_defaults(run=run_show)

    check = actions.add_parser("check", help=_("wait until the DNS has the keys of a domain"))
    _add_domain(check)
    check.add_argument(
        "--wait",
        type=float,
        default=_WAIT,
        metavar="MINUTES",
        help=_("wait so long at most (default: {count}); 0: one look").format(count=f"{_WAIT:g}"),
    )
    check.add_argument(
        "--interval",
        type=float,
        default=_INTERVAL,
        metavar="SECONDS",
        help=_("time between two looks (default: {count})").format(count=f"{_INTERVAL:g}"),
    )
    check.set_defaults(run=run_check)

    rotate = actions.add_parser("rotate", help=_("make the next key; it signs as soon as the DNS has it"))
    _add_domain(rotate)
    _add_selector(rotate, _("name of the new key in the DNS"))
    rotate.set_defaults(run=run_rotate)

    listed = actions.add_parser("list", help=_("list the keys, and which ones sign"))
    listed.add_argument("--json", action="store_true", help=_("print JSON"))
    listed.set_defaults(run=run_list)

    remove = actions.add_parser("remove", help=_("remove the keys of a domain, or one of them"))
    _add_domain(remove)
    _add_selector(remove, _("only the key of that name"))
    remove.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    remove.set_defaults(run=run_remove)


def _add_domain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("domain", help=_("domain of the authors, such as firma.de"))


def _add_selector(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--selector", metavar="NAME", help=words)


# ---- actions ----


def run_setup(chosen: argparse.Namespace) -> int:
    """0 with a key; 1 if the providers of the domain sign by themselves."""
    config, domain = read_config(chosen), _domain(chosen)
    with open_editor(config) as editor:
        unsigned, signing = _providers(config, [stored.account for stored in editor.all()], domain)
        if not unsigned and not _has_other_ways(config):
            _say_that_the_provider_signs(domain, signing)
            return EX_FAILED
        keys = _keys_of(editor.records(DKIM_KEY), domain)
        if keys:
            print(_("There is a key for {domain} already.").format(domain=domain))
            print_hint(_("Make the next one: senderproxy dkim rotate {domain}").format(domain=domain))
        else:
            keys = [_add_key(editor, domain, chosen.selector, [])]
            editor.save()
            print(_("Made a key for {domain}.").format(domain=domain), pickup_note(config))
    if signing:
        text = _("Mail of {domain} through {providers} gets no signature from senderproxy: that provider signs.")
        print_paragraph(text.format(domain=domain, providers=", ".join(signing)))
    _print_records(keys)
    return EX_OK


def run_show(chosen: argparse.Namespace) -> int:
    domain = _domain(chosen)
    _print_records(_expect_keys(open_accounts(read_config(chosen)).records(DKIM_KEY), domain))
    return EX_OK


def run_check(chosen: argparse.Namespace) -> int:
    """0 if the DNS has all keys of the domain, 1 if it has not after the time."""
    config, domain = read_config(chosen), _domain(chosen)
    keys = _expect_keys(open_accounts(config).records(DKIM_KEY), domain)
    with progress():
        looks = _wait_for_records(keys, chosen.wait * 60, chosen.interval)
    for one in keys:
        look = looks[one.key.name]
        if isinstance(look, KeyLook):
            words = words_of_look(look, one.key.name, domain)
        else:
            words = _("DNS lookup failed: {error}").format(error=look)
        print(printable(f"{one.key.selector}: {words}"))
    if all(isinstance(look, KeyLook) and look.problem is KeyRecord.RIGHT for look in looks.values()):
        print(_service_note(config, domain))
        return EX_OK
    print_hint(
        _(
            "Name servers may keep an earlier answer for an hour. The service looks by itself and begins to sign as"
            " soon as the DNS has the key; the record: senderproxy dkim show {domain}"
        ).format(domain=domain)
    )
    return EX_FAILED


def run_rotate(chosen: argparse.Namespace) -> int:
    """0 with a new key; 1 if the last one is not in the DNS yet."""
    config, domain = read_config(chosen), _domain(chosen)
    with open_editor(config) as editor:
        keys = _expect_keys(editor.records(DKIM_KEY), domain)
        if len(keys) >= KEYS_OF_DOMAIN:
            look = look_at(keys[-1])
            if not isinstance(look, KeyLook) or look.problem is not KeyRecord.RIGHT:
                print_error(
                    _("The last key of {domain} is not in the DNS yet: {selector}.").format(
                        domain=domain, selector=keys[-1].key.selector
                    ),
                    _("Enter its record, or remove it: senderproxy dkim remove {domain} --selector {selector}").format(
                        domain=domain, selector=keys[-1].key.selector
                    ),
                )
                _print_records(keys[-1:])
                return EX_FAILED
        gone, kept = keys[: 1 - KEYS_OF_DOMAIN], keys[1 - KEYS_OF_DOMAIN :]
        new = _add_key(editor, domain, chosen.selector, keys)
        for one in gone:
            editor.remove_record(one.record)
        editor.save()
    print(_("Made the next key for {domain}.").format(domain=domain), pickup_note(config))
    for one in gone:
        text = _("Key {selector} is removed; its DNS record can go: {name}")
        print(text.format(selector=one.key.selector, name=one.key.name))
    _print_records([new])
    old = kept[-1].key
    print()
    print_paragraph(
        _(
            "Until the DNS has it, {selector} goes on signing. A week after that, the DNS record {name} can go, not"
            " earlier: mail on its way is verified with it. Then: senderproxy dkim remove {domain}"
            " --selector {selector}"
        ).format(selector=old.selector, name=old.name, domain=domain)
    )
    return EX_OK


def run_list(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    keys = read_dkim_keys(open_accounts(config).records(DKIM_KEY))
    states, problem = states_of_keys(config)
    entries = [_entry(one, states.get((one.key.domain, one.key.selector))) for one in keys]
    if chosen.json:
        print_json(entries)
        return EX_OK
    if not entries:
        print(_("There is no key yet."))
        print_hint(_("Make one: senderproxy dkim setup {domain}").format(domain="firma.de"))
        return EX_OK
    rows = [
        [entry["domain"], entry["selector"], local_time(entry["created"]), _signs(entry), _record_words(entry)]
        for entry in entries
    ]
    print_table((_("domain"), _("selector"), _("made"), _("signs"), _("DNS record")), rows)
    if problem:
        print_hint(problem)
    return EX_OK


def run_remove(chosen: argparse.Namespace) -> int:
    config, domain = read_config(chosen), _domain(chosen)
    with open_editor(config) as editor:
        records = [
            record
            for record in editor.records(DKIM_KEY)
            if record.fields.get("domain") == domain and chosen.selector in (None, record.fields.get("selector"))
        ]
        if not records:
            raise _no_key(domain, chosen.selector)
        names = ", ".join(record.fields.get("selector", record.id) for record in records)
        question = _("Remove {names}? Mail of {domain} is then not signed by it any more.")
        if not chosen.yes and not confirm(question.format(names=names, domain=domain)):
            return EX_FAILED
        for record in records:
            editor.remove_record(record)
        editor.save()
    print(_("Removed {names}.").format(names=names), pickup_note(config))
    print_paragraph(_("Leave the DNS record for a week: mail on its way is verified with it."))
    return EX_OK


# ---- keys ----


def _domain(chosen: argparse.Namespace) -> str:
    return typed_pattern(f"@{chosen.domain.removeprefix('@')}").domain


def _providers(config: Config, accounts: Sequence[Account], domain: str) -> tuple[list[str], list[str]]:
    """The providers of the domain's accounts: those that do not sign, and those that do. Raises UsageError."""
    providers = config.provider_table()
    of_domain = [one.provider for one in accounts if any(pattern.domain == domain for pattern in one.carries)]
    if not of_domain:
        raise UsageError(
            _("No account sends for {domain}.").format(domain=domain),
            hint=_("List the accounts: senderproxy account list"),
        )
    signing = [name for name in dict.fromkeys(of_domain) if name in providers and providers[name].signs]
    return [name for name in dict.fromkeys(of_domain) if name not in signing], signing


def _has_other_ways(config: Config) -> bool:
    """True if mail leaves by routes that no provider is on."""
    return any(not route.via.startswith(("account ", "internal ")) for route in config.routes)


def _say_that_the_provider_signs(domain: str, signing: Sequence[str]) -> None:
    print_error(
        _("{providers} signs mail of {domain} by itself, so no key is made.").format(
            providers=", ".join(signing), domain=domain
        ),
        _(
            "See whether its DNS records are there: senderproxy check. If it does not sign: signs = false in"
            " [providers.{provider}] of the configuration"
        ).format(provider=signing[0]),
    )


def _keys_of(records: Sequence[StoredRecord], domain: str) -> list[StoredDkimKey]:
    return [one for one in read_dkim_keys(records) if one.key.domain == domain]


def _expect_keys(records: Sequence[StoredRecord], domain: str) -> list[StoredDkimKey]:
    keys = _keys_of(records, domain)
    if not keys:
        raise _no_key(domain, None)
    return keys


def _no_key(domain: str, selector: str | None) -> UsageError:
    return UsageError(
        _("There is no key {selector} for {domain}.").format(selector=selector, domain=domain)
        if selector
        else _("There is no key for {domain}.").format(domain=domain),
        hint=_("List the keys: senderproxy dkim list"),
    )


def _add_key(
    editor: AccountEditor, domain: str, selector: str | None, before: Sequence[StoredDkimKey]
) -> StoredDkimKey:
    """Put a new key in the vault, without saving. Raises UsageError for a selector that is in use."""
    now = SystemClock().now()
    taken = [one.key.selector for one in before]
    name = selector or new_selector(now.date(), taken)
    if name in taken:
        raise UsageError(_("There is a key {selector} already.").format(selector=name))
    new = new_dkim_key(domain, name, now)
    editor.put_record(new.record)
    return new


def _print_records(keys: Sequence[StoredDkimKey]) -> None:
    for one in keys:
        print()
        print_record(one.key)
    print()
    print(_("Next step: {command}").format(command=f"senderproxy dkim check {keys[-1].key.domain}"))


# ---- the DNS ----


def look_at(one: StoredDkimKey) -> KeyLook | LookupFailed:
    """The record of a key in the DNS, or why it could not be looked up."""
    try:
        return look_at_key(Lookups(DnsClient().records), one.key.name, one.key.domain, one.key.public)
    except LookupFailed as error:
        return error


def _wait_for_records(
    keys: Sequence[StoredDkimKey], seconds: float, interval: float
) -> Mapping[str, KeyLook | LookupFailed]:
    """Look until the DNS has all keys, or the time is over; the results by the names of the records."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while True:
        looks = {one.key.name: look_at(one) for one in keys}
        missing = [
            name for name, look in looks.items() if not isinstance(look, KeyLook) or look.problem is not KeyRecord.RIGHT
        ]
        left = end - clock.monotonic()
        if not missing or left <= 0:
            return looks
        text = _("Waiting for {name} ... {count} s left (Ctrl-C ends it; the service goes on looking)")
        print_progress(text.format(name=missing[0], count=round(left)))
        time.sleep(min(interval, left))


# ---- the running service ----


def _service_note(config: Config, domain: str) -> str:
    """Let the service look at the records now; a sentence on the outcome."""
    try:
        states = _ask(config, domain=domain)
    except SenderproxyError as error:
        return _("The service could not be asked; it looks by itself: {error}").format(error=error.message)
    signing = [entry["selector"] for entry in states if entry["domain"] == domain and entry["signs"]]
    if not signing:
        return _("The service does not see the key yet; it looks again each minute.")
    return _("The service signs mail of {domain} with {selector}.").format(domain=domain, selector=signing[0])


def states_of_keys(config: Config) -> tuple[dict[tuple[str, str], dict[str, Any]], str]:
    """The states of the keys by domain and selector, and the reason if they are not known."""
    try:
        entries = _ask(config)
    except SenderproxyError as error:
        return {}, error.message
    return {(entry["domain"], entry["selector"]): entry for entry in entries}, ""


def _ask(config: Config, **fields: object) -> list[dict[str, Any]]:
    request = new_request(Verb.DKIM, **fields)
    answer = ask(Path(config.service.control_socket), request, seconds=_SERVICE_TIMEOUT)
    return list(answer["keys"])


def _entry(one: StoredDkimKey, state: Mapping[str, Any] | None) -> dict[str, Any]:
    """A key with its state; None without an answer of the service."""
    return {
        "domain": one.key.domain,
        "selector": one.key.selector,
        "created": datetime.fromisoformat(one.created).isoformat(),
        "signs": None if state is None else state["signs"],
        "record": None if state is None else state["record"],
        "found": None if state is None else state["found"],
        "looked_at": None if state is None else state["looked_at"],
        "error": None if state is None else state["error"],
    }


def _signs(entry: Mapping[str, Any]) -> str:
    if entry["signs"] is None:
        return "?"
    return _("yes") if entry["signs"] else _("no")


def _record_words(entry: Mapping[str, Any]) -> str:
    if entry["error"]:
        return _("DNS lookup failed: {error}").format(error=entry["error"])
    if not entry["record"]:
        return "?" if entry["record"] is None else _("not looked at yet")
    try:
        look = KeyLook(KeyRecord(entry["record"]), str(entry["found"]))
    except ValueError:  # a service of another version
        return str(entry["record"])
    return words_of_look(look, f"{entry['selector']}._domainkey.{entry['domain']}", str(entry["domain"]))
