"""`senderproxy oauth`, and accounts that log in with OAuth: from the registration to a message that is sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.simulator.rules import SimulatedMailbox
from tests.senderproxy.cli.conftest import Office
from tests.senderproxy.cli.token_server import TokenServer, token_server
from tests.senderproxy.signing.keys import certified_key
from vault import Vault

ANNA = "anna@firma.example"


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as made:
        yield made


@contextmanager
def taking_tokens(office: Office, token: str = "geheim-token") -> Iterator[None]:
    """The provider takes this token in the place of a password, and no password."""
    simulator = office.simulator
    before = simulator.settings
    mailboxes = {**before.mailboxes, ANNA: SimulatedMailbox(token)}
    simulator.settings = replace(before, mechanisms=("XOAUTH2",), mailboxes=mailboxes)
    try:
        yield
    finally:
        simulator.settings = before


def add_application(office: Office, server: TokenServer, *more: str) -> None:
    options = ("--flow", "application", "--client-id", "client-1", "--token-url", f"{server.url}/token")
    added = office.type("oauth", "add", "office", *options, "--password-stdin", *more, stdin="geheim-secret\n")
    assert added.code == 0, added.err
    assert "senderproxy account add ADDRESS --provider NAME --oauth office" in added.out


def test_from_the_application_to_a_message(office: Office, server: TokenServer) -> None:
    add_application(office, server)
    with taking_tokens(office):
        added = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "office")
        assert added.code == 0, added.err
        assert server.forms == [
            {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": "geheim-secret"}
        ]
        assert office.simulator.logins()[-1].mechanism == "XOAUTH2"
        verified = office.type("account", "verify", "--json")
        assert (verified.code, verified.json[0]["works"]) == (0, True)
        sent = office.type("send", "--direct", "--from", ANNA, "--to", "kunde@laden.example")
        assert sent.code == 0, sent.err
    assert [login.accepted for login in office.simulator.logins()] == [True] * 3
    shown = office.type("account", "show", ANNA)
    assert "office" in shown.out
    entry = office.type("account", "show", ANNA, "--json").json
    assert entry["oauth"] == "office"


def test_a_refused_token_request_stores_nothing(office: Office, server: TokenServer) -> None:
    add_application(office, server)
    server.refusal = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}
    ended = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "office")
    assert ended.code == 1
    assert "refused the secret of the application" in ended.err
    assert "senderproxy oauth set-secret office" in ended.err
    assert office.type("account", "list", "--json").json == []
    assert office.simulator.logins() == []


def test_a_token_that_the_provider_refuses_stores_nothing(office: Office, server: TokenServer) -> None:
    add_application(office, server)
    with taking_tokens(office, "geheim-other"):
        ended = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "office")
    assert ended.code == 1
    assert "535" in ended.err
    assert "account consent" in ended.err
    assert office.simulator.failed_logins() == 1
    assert office.type("account", "list", "--json").json == []


def test_an_account_changes_between_password_and_token(office: Office, server: TokenServer) -> None:
    office.add(ANNA)
    add_application(office, server)
    refused = office.type("account", "consent", ANNA)
    assert refused.code == 64
    assert "--oauth NAME" in refused.err
    with taking_tokens(office):
        changed = office.type("account", "consent", ANNA, "--oauth", "office")
        assert changed.code == 0, changed.err
        first = grant_of(office)
        assert office.type("account", "consent", ANNA).code == 0
        assert grant_of(office) != first
    in_use = office.type("oauth", "remove", "office")
    assert in_use.code == 64
    assert ANNA in in_use.err
    back = office.type("account", "set-password", ANNA, "--password-stdin", stdin="geheim-anna\n")
    assert back.code == 0, back.err
    assert grant_of(office) is None
    assert office.type("oauth", "remove", "office").code == 0


def grant_of(office: Office) -> str | None:
    key = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    grant = VaultAccounts.open(office.folder / "accounts.vault", key).grant(ANNA)
    return None if grant is None else grant.id


def test_applications_are_listed_without_their_secrets(office: Office, server: TokenServer) -> None:
    assert "senderproxy oauth add microsoft" in office.type("oauth", "list").out
    add_application(office, server, "--expires", "2030-06-30")
    assert office.type("oauth", "list", "--json").json == [
        {
            "name": "office",
            "server": "office",
            "flow": "application",
            "tenant": "",
            "client_id": "client-1",
            "token_url": f"{server.url}/token",
            "proof": "secret",
            "valid_until": "2030-06-30",
            "problem": None,
        }
    ]
    assert "client-1" in office.type("oauth", "list").out
    shown = office.type("oauth", "show", "office")
    assert "client-1" in shown.out
    assert office.type("oauth", "show", "office", "--json").json["accounts"] == []


def test_an_application_is_changed(office: Office, server: TokenServer) -> None:
    add_application(office, server)
    assert office.type("oauth", "edit", "office", "--client-id", "client-2").code == 0
    assert office.type("oauth", "show", "office", "--json").json["client_id"] == "client-2"
    unchanged = office.type("oauth", "edit", "office", "--client-id", "client-2")
    assert unchanged.code == 64
    new = office.type("oauth", "set-secret", "office", "--password-stdin", stdin="geheim-secret-2\n")
    assert new.code == 0, new.err
    pair = certified_key()
    (office.folder / "cert.pem").write_text(pair.certificate)
    (office.folder / "key.pem").write_text(pair.key)
    files = ("--certificate", str(office.folder / "cert.pem"), "--key", str(office.folder / "key.pem"))
    assert office.type("oauth", "set-secret", "office", *files).code == 0
    entry = office.type("oauth", "show", "office", "--json").json
    assert entry["proof"] == "certificate"
    assert entry["valid_until"] is not None


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("microsoft", "--client-id", "c", "--password-stdin"), "geheim-s\n", "Directory (tenant) ID"),
        (("microsoft", "--client-id", "c", "--tenant", "a/b", "--password-stdin"), "geheim-s\n", "no tenant"),
        (("microsoft", "--tenant", "firma.de", "--password-stdin"), "geheim-s\n", "Application (client) ID"),
        (("microsoft", "--client-id", "c", "--tenant", "firma.de"), "", "there is no terminal"),
        (("office", "--client-id", "c", "--password-stdin"), "geheim-s\n", "Token endpoint"),
        (
            (
                "office",
                "--flow",
                "application",
                "--client-id",
                "c",
                "--token-url",
                "http://x.example/",
                "--password-stdin",
            ),
            "geheim-s\n",
            "no TLS",
        ),
        (("microsoft", "--client-id", "c", "--tenant", "firma.de", "--key", "k"), "", "belong together"),
        (("google", "--key-file", "missing.json"), "", "Cannot read missing.json"),
        (("google", "--key-file", "senderproxy.toml"), "", "Cannot read"),
        (("microsoft", "--client-id", "c", "--tenant", "firma.de", "--no-secret"), "", "neither a secret"),
        (
            ("microsoft", "--client-id", "c", "--tenant", "firma.de", "--expires", "soon", "--password-stdin"),
            "geheim-s\n",
            "no date",
        ),
    ],
)
def test_an_application_that_is_not_usable_is_not_stored(
    office: Office, words: tuple[str, ...], stdin: str, said: str
) -> None:
    ended = office.type("oauth", "add", *words, stdin=stdin)
    assert ended.code != 0
    assert said in ended.err
    assert office.type("oauth", "list", "--json").json == []


def test_a_key_file_that_is_none(office: Office, tmp_path: Path) -> None:
    for name, content in (("empty.json", "{}"), ("other.json", "[1]"), ("user.json", '{"type": "authorized_user"}')):
        (tmp_path / name).write_text(content)
        ended = office.type("oauth", "add", "google", "--key-file", str(tmp_path / name))
        assert ended.code != 0
        assert "no key file of a service account" in ended.err


def test_a_service_account(office: Office, server: TokenServer, tmp_path: Path) -> None:
    key_file = tmp_path / "robot.json"
    entry = {
        "type": "service_account",
        "client_email": "robot@p.iam.gserviceaccount.com",
        "private_key_id": "id-7",
        "private_key": certified_key().key,
        "token_uri": f"{server.url}/token",
    }
    key_file.write_text(json.dumps(entry))
    assert office.type("oauth", "add", "google", "--key-file", str(key_file)).code == 0
    with taking_tokens(office):
        added = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "google")
        assert added.code == 0, added.err
    assert server.forms[0]["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"


def test_an_unknown_application_is_answered_with_the_command(office: Office) -> None:
    ended = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "microsoft")
    assert ended.code == 64
    assert "senderproxy oauth add microsoft" in ended.err
    for action in ("show", "remove", "edit"):
        more = ("--client-id", "x") if action == "edit" else ()
        assert "There is no application microsoft" in office.type("oauth", action, "microsoft", *more).err


def add_consent(office: Office, server: TokenServer) -> None:
    """Add Anna's account with her consent."""
    options = ("--flow", "consent", "--client-id", "client-1", "--token-url", f"{server.url}/token")
    device = ("--device-url", f"{server.url}/device", "--no-secret")
    assert office.type("oauth", "add", "desk", *options, *device).code == 0
    codes = {"device_code": "geheim-d", "user_code": "A", "verification_uri": "https://x.example/", "interval": 1}
    server.answers = [codes, {"access_token": "geheim-token", "refresh_token": "geheim-refresh"}]
    with taking_tokens(office):
        added = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "desk", "--device")
    assert added.code == 0, added.err


def test_a_restored_backup_names_the_accounts_without_a_consent(office: Office, server: TokenServer) -> None:
    add_consent(office, server)
    add_application(office, server)
    with taking_tokens(office):  # Bert's account needs no person
        added = office.type(
            "account", "add", "bert@firma.example", "--provider", "ionos", "--oauth", "office", "--no-verify"
        )
    assert added.code == 0, added.err
    assert not [
        form for form in server.forms if form.get("grant_type") == "client_credentials"
    ]  # --no-verify asks nobody
    backup, passphrase = str(office.folder / "all.backup"), "geheim-passphrase\n"
    assert office.type("backup", backup, "--passphrase-stdin", stdin=passphrase).code == 0
    drill = str(office.folder / "drill")
    restored = office.bare("restore", backup, "--folder", drill, "--passphrase-stdin", stdin=passphrase)
    assert restored.code == 0, restored.err
    assert f"Account {ANNA} needs a new consent: " in restored.out
    assert f"account consent {ANNA}" in restored.out
    assert "bert@firma.example" not in restored.out
    config = str(office.folder / "drill" / "senderproxy.toml")
    verified = office.bare("--config", config, "account", "verify", ANNA)
    assert verified.code == 1
    assert "backups leave refresh tokens out" in verified.out + verified.err
    assert f"senderproxy account consent {ANNA}" in verified.out + verified.err


OUTPUTS = [
    ("account", "list"),
    ("account", "list", "--json"),
    ("account", "show", ANNA),
    ("account", "show", ANNA, "--json"),
    ("account", "verify"),
    ("account", "verify", "--json"),
    ("oauth", "list"),
    ("oauth", "list", "--json"),
    ("oauth", "show", "desk"),
    ("oauth", "show", "office", "--json"),
    ("check",),
    ("check", "--json"),
    ("explain", ANNA),
    ("explain", ANNA, "--json"),
    ("send", "--direct", "--from", ANNA, "--to", "kunde@laden.example"),
    ("vault", "status"),
    ("vault", "verify"),
    ("vault", "unlocks"),
    ("queue", "list", "--json"),
    ("track", "--json"),
    ("status", "--json"),
]


def test_no_output_has_a_token_or_a_secret(office: Office, server: TokenServer) -> None:
    """Tokens and secrets here begin with the word that `type` looks for in all that a command prints."""
    add_consent(office, server)
    add_application(office, server)
    with taking_tokens(office):
        server.answers = [{"access_token": "geheim-token", "refresh_token": "geheim-rotated", "expires_in": 3600}]
        for words in OUTPUTS:
            ended = office.type(*words)
            assert "usage:" not in ended.err, words
            assert ended.out or words[0] in {"status", "queue", "track"}, words
    assert any(form.get("refresh_token") == "geheim-rotated" for form in server.forms)
    refused = {"error": "invalid_grant", "error_description": "geheim-rotated is unknown"}
    server.refusal = refused
    ended = office.type("account", "verify", ANNA)
    assert "*** is unknown" in ended.out + ended.err


def test_a_vault_that_was_imported_names_the_accounts_without_a_consent(office: Office, server: TokenServer) -> None:
    add_consent(office, server)
    copy = str(office.folder / "copy.vault")
    twice = "geheim-passphrase\n"
    exported = office.type("vault", "export", copy, "--passphrase-stdin", stdin=twice)
    assert exported.code == 0, exported.err
    (office.folder / "accounts.vault").rename(office.folder / "old.vault")
    imported = office.type("vault", "import", copy, "--passphrase-stdin", stdin=twice)
    assert imported.code == 0, imported.err
    assert f"Account {ANNA} needs a new consent: senderproxy account consent {ANNA}" in imported.out


def test_no_secret_is_in_the_clear(office: Office, server: TokenServer) -> None:
    add_application(office, server)
    assert b"geheim" not in (office.folder / "accounts.vault").read_bytes()
    with Vault.open(
        office.folder / "accounts.vault", unlock=unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    ) as box:
        assert b"geheim-secret" in box.get("office")
