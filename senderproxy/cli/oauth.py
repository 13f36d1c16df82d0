"""`senderproxy oauth`: the applications of OAuth logins, in the vault.

Guarantees: no command shows a secret, a key or a certificate's key. A change is written as a whole or not at all; an
application in use is not removed.
Not here: the consent and the login of an account (cli.account_oauth), the steps at a provider
(cli.oauth_instructions).
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from senderproxy.accounts.oauth_application import (
    Flow,
    StoredApplication,
    UsableApplication,
    applications,
    from_record,
)
from senderproxy.accounts.record import OAUTH_APPLICATION, StoredRecord
from senderproxy.accounts.usable_application import to_record
from senderproxy.cli.common import open_accounts, open_editor, pickup_note, read_config
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.oauth_instructions import KNOWN_SERVERS, USUAL_PROVIDERS, registration_steps, usual_flow
from senderproxy.cli.questions import ask, not_empty
from senderproxy.cli.terminal import (
    ask_new_secret,
    is_interactive,
    print_field,
    print_hint,
    print_json,
    print_paragraph,
    print_table,
)
from senderproxy.translation import _

_FILE_LIMIT: Final = 65536  # octets of a key, a certificate or a key file; the longest have 13,000
_FLOWS: Final = tuple(flow.value for flow in Flow)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy oauth`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    add = actions.add_parser("add", help=_("add an application; asks for what the options leave out"))
    add.add_argument("name", help=_("microsoft, google, or a name for another server"))
    _add_server_options(add)
    _add_secret_options(add)
    add.set_defaults(run=run_add)

    listed = actions.add_parser("list", help=_("list the applications"))
    listed.add_argument("--json", action="store_true", help=_("JSON output"))
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help=_("show one application, without its secret"))
    show.add_argument("name", help=_("name of the application"))
    show.add_argument("--json", action="store_true", help=_("JSON output"))
    show.set_defaults(run=run_show)

    edit = actions.add_parser("edit", help=_("change the addresses or the client id of an application"))
    edit.add_argument("name", help=_("name of the application"))
    _add_server_options(edit)
    edit.add_argument(
        "--expires", metavar="DATE", help=_("last day of the secret, such as 2028-06-30; empty: not known")
    )
    edit.set_defaults(run=run_edit)

    secret = actions.add_parser("set-secret", help=_("change the secret or the certificate; asks for the secret"))
    secret.add_argument("name", help=_("name of the application"))
    _add_secret_options(secret)
    secret.set_defaults(run=run_set_secret)

    remove = actions.add_parser("remove", help=_("remove an application that no account uses"))
    remove.add_argument("name", help=_("name of the application"))
    remove.set_defaults(run=run_remove)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flow",
        choices=_FLOWS,
        help=_("way to a token: the application alone, a person's consent, or Google's service account"),
    )
    parser.add_argument("--tenant", help=_("Microsoft: Directory (tenant) ID, or a domain of the organization"))
    parser.add_argument("--client-id", metavar="ID", help=_("Application (client) ID"))
    parser.add_argument("--token-url", metavar="URL", help=_("another server: its token endpoint"))
    parser.add_argument("--authorization-url", metavar="URL", help=_("another server: its authorization endpoint"))
    parser.add_argument("--device-url", metavar="URL", help=_("another server: its device authorization endpoint"))
    parser.add_argument("--scopes", metavar="TEXT", help=_("another server: the scopes, separated by blanks"))


def _add_secret_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-stdin", action="store_true", help=_("read the secret from a line of standard input")
    )
    parser.add_argument("--no-secret", action="store_true", help=_("the application has no secret (public client)"))
    parser.add_argument("--certificate", metavar="FILE", help=_("certificate in PEM, in place of a secret"))
    parser.add_argument("--key", metavar="FILE", help=_("private key of the certificate in PEM"))
    parser.add_argument("--key-file", metavar="FILE", help=_("JSON key file of Google's service account"))
    parser.add_argument("--expires", metavar="DATE", help=_("last day of the secret, such as 2028-06-30"))


# ---- actions ----


def run_add(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        if any(record.id == chosen.name for record in editor.records(OAUTH_APPLICATION)):
            raise UsageError(
                _("There is an application {name} already.").format(name=chosen.name),
                hint=_("Change it: senderproxy oauth edit {name}, or oauth set-secret {name}").format(name=chosen.name),
            )
        editor.put_record(to_record(new_application(chosen)))
        editor.save()
    print(_("Added application {name}.").format(name=chosen.name), pickup_note(config))
    provider = USUAL_PROVIDERS.get(chosen.name, "NAME")
    step = f"senderproxy account add ADDRESS --provider {provider} --oauth {chosen.name}"
    print(_("Next step: {command}").format(command=step))
    return EX_OK


def run_list(chosen: argparse.Namespace) -> int:
    accounts = open_accounts(read_config(chosen))
    entries = [
        _entry(from_record(record), accounts.application(record.id)) for record in accounts.records(OAUTH_APPLICATION)
    ]
    if chosen.json:
        print_json(entries)
        return EX_OK
    if not entries:
        print(_("There is no application yet."))
        print_hint(_("Add one: senderproxy oauth add microsoft"))
        return EX_OK
    rows = [
        [str(entry[key] or "-") for key in ("name", "server", "flow", "client_id", "valid_until")] for entry in entries
    ]
    print_table((_("application"), _("server"), _("flow"), _("client id"), _("valid until")), rows)
    return EX_OK


def run_show(chosen: argparse.Namespace) -> int:
    accounts = open_accounts(read_config(chosen))
    stored = _find(accounts.records(OAUTH_APPLICATION), chosen.name)
    entry = _entry(stored, accounts.application(stored.id))
    entry["accounts"] = [
        a.id for a in accounts.directory().accounts if _application_of(accounts.grant(a.id)) == stored.id
    ]
    if chosen.json:
        print_json(entry)
        return EX_OK
    for name, key in (
        (_("name"), "name"),
        (_("server"), "server"),
        (_("flow"), "flow"),
        (_("tenant"), "tenant"),
        (_("client id"), "client_id"),
        (_("token endpoint"), "token_url"),
        (_("secret"), "proof"),
        (_("valid until"), "valid_until"),
        (_("problem"), "problem"),
    ):
        print_field(name, entry[key] or "-", width=18)
    print_field(_("accounts"), ", ".join(entry["accounts"]) or "-", width=18)  # type: ignore[arg-type]
    return EX_OK


def run_edit(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        stored = _find(editor.records(OAUTH_APPLICATION), chosen.name)
        typed = {name: value for name in _EDITED if (value := getattr(chosen, name)) is not None}
        if "flow" in typed:
            typed["flow"] = Flow(typed["flow"])
        changed = replace(stored, **typed)
        if changed == stored:
            raise UsageError(_("No change."), hint=_("Name what to change: senderproxy oauth edit --help"))
        editor.put_record(to_record(changed))
        editor.save()
    print(_("Changed application {name}.").format(name=stored.id), pickup_note(config))
    return EX_OK


def run_set_secret(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        stored = _find(editor.records(OAUTH_APPLICATION), chosen.name)
        bare = replace(stored, secret="", certificate="", key="", key_file="", expires=chosen.expires or "")
        editor.put_record(to_record(_with_secret(bare, chosen)))
        editor.save()
    print(_("Changed the secret of application {name}.").format(name=stored.id), pickup_note(config))
    print(_("Next step: {command}").format(command="senderproxy account verify"))
    return EX_OK


def run_remove(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        record = next((one for one in editor.records(OAUTH_APPLICATION) if one.id == chosen.name), None)
        if record is None:
            raise _unknown(chosen.name, editor.records(OAUTH_APPLICATION))
        users = [one.account.id for one in editor.all() if one.grant is not None and one.grant.application == record.id]
        if users:
            raise UsageError(
                _("Accounts log in through {name}: {accounts}.").format(name=record.id, accounts=", ".join(users)),
                hint=_("Remove them first, or give them a password: senderproxy account set-password {id}").format(
                    id=users[0]
                ),
            )
        editor.remove_record(record)
        editor.save()
    print(_("Removed application {name}.").format(name=record.id), pickup_note(config))
    return EX_OK


# ---- parts ----

_EDITED: Final = (
    "flow",
    "tenant",
    "client_id",
    "token_url",
    "authorization_url",
    "device_url",
    "scopes",
    "expires",
)


def new_application(chosen: argparse.Namespace) -> StoredApplication:
    """The application of the options, completed by questions. Raises SenderproxyError."""
    name = chosen.name
    server = name if name in KNOWN_SERVERS else "other"
    flow = Flow(chosen.flow) if chosen.flow else (Flow.SERVICE_ACCOUNT if chosen.key_file else usual_flow(server))
    if is_interactive() and (steps := registration_steps(server, flow)):
        print_paragraph(_("Do this at the provider first:"))
        for number, step in enumerate(steps, start=1):
            print_paragraph(f"{number}. {step}")
    tenant = _asked(chosen.tenant, _("Directory (tenant) ID")) if server == "microsoft" else ""
    stored = StoredApplication(
        name,
        flow,
        name,
        client_id="" if flow is Flow.SERVICE_ACCOUNT else _asked(chosen.client_id, _("Application (client) ID")),
        tenant=tenant,
        token_url=_asked(chosen.token_url, _("Token endpoint")) if server == "other" else "",
        authorization_url=chosen.authorization_url or "",
        device_url=chosen.device_url or "",
        scopes=chosen.scopes or "",
        expires=chosen.expires or "",
    )
    if server == "other" and flow is Flow.CONSENT and not (stored.authorization_url or stored.device_url):
        stored = replace(stored, authorization_url=_asked(None, _("Authorization endpoint")))
    return _with_secret(stored, chosen)


def _with_secret(stored: StoredApplication, chosen: argparse.Namespace) -> StoredApplication:
    """The application with the secret, certificate or key file of the options. Raises SenderproxyError."""
    if chosen.key_file or stored.flow is Flow.SERVICE_ACCOUNT:
        path = chosen.key_file or _asked(None, _("JSON key file of the service account"))
        return replace(stored, key_file=_read(path))
    if chosen.certificate or chosen.key:
        if not (chosen.certificate and chosen.key):
            raise UsageError(_("--certificate and --key belong together."))
        return replace(stored, certificate=_read(chosen.certificate), key=_read(chosen.key))
    if chosen.no_secret:
        return stored
    if stored.flow is Flow.CONSENT and stored.server == "microsoft" and not chosen.password_stdin:
        return stored  # a public client, as its registration for a person's consent is
    prompt = _("Secret of application {name}").format(name=stored.id)
    return replace(stored, secret=ask_new_secret(prompt, from_stdin=chosen.password_stdin))


def _asked(typed: str | None, question: str) -> str:
    if typed:
        return typed
    if is_interactive():
        return ask(question, not_empty, None)
    raise UsageError(
        _("{question}: there is no terminal.").format(question=question), hint="senderproxy oauth add --help"
    )


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            octets = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise InputError(_("Cannot read {path}: {error}.").format(path=path, error=error.strerror)) from error
    try:
        return octets.decode("ascii")
    except UnicodeDecodeError:
        raise InputError(_("{path} is no text file of the expected kind.").format(path=path)) from None


def _find(records: Sequence[StoredRecord], name: str) -> StoredApplication:
    found = applications(records)
    if name not in found:
        raise _unknown(name, records)
    return found[name]


def _unknown(name: str, records: Sequence[StoredRecord]) -> UsageError:
    known = ", ".join(record.id for record in records) or _("none")
    return UsageError(
        _("There is no application {name}.").format(name=name),
        hint=_("Known ones: {names}. Add one: senderproxy oauth add {name}").format(names=known, name=name),
    )


def _application_of(grant: object) -> str:
    return getattr(grant, "application", "")


def _entry(stored: StoredApplication, used: UsableApplication | str) -> dict[str, object]:
    """An application as it is listed: everything but its secrets."""
    until = used.valid_until if isinstance(used, UsableApplication) else None
    proof = (
        "certificate" if stored.certificate else "key-file" if stored.key_file else "secret" if stored.secret else ""
    )
    return {
        "name": stored.id,
        "server": stored.server,
        "flow": stored.flow.value,
        "tenant": stored.tenant,
        "client_id": stored.client_id,
        "token_url": used.server.token_url if isinstance(used, UsableApplication) else stored.token_url,
        "proof": proof,
        "valid_until": until.date().isoformat() if until is not None else None,
        "problem": used if isinstance(used, str) else None,
    }
