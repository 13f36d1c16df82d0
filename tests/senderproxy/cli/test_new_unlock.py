"""New unlocks: passphrases, entries of a keyring, and what a failed command leaves of them."""

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

from senderproxy.accounts.passphrases import SHORTEST, passphrase_problem
from senderproxy.accounts.unlock import starts_alone
from tests.peers.process import free_port
from tests.senderproxy.cli.conftest import Office
from tests.senderproxy.cli.pseudo_terminal import at_terminal
from tests.senderproxy.cli.test_setup import options

LONG = "geheim-satz fuer den Tresor"
SHORT = "geheim-kurz"


class _Keyring(KeyringBackend):
    """A keyring in memory, which passes for one that encrypts."""

    priority = 1

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError(service)


_Keyring.__module__, _Keyring.__qualname__ = "keyring.backends.SecretService", "Keyring"
KeyringBackend._classes.discard(_Keyring)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """The entries of this machine's keyring."""
    backend = _Keyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    return backend.entries


# ---- passphrases ----


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("x" * SHORTEST, True),
        ("x" * (SHORTEST - 1), False),
        ("", False),
        (f"{'x' * (SHORTEST - 1)} ", False),  # blanks at the edge are lost in many places
        ("u\u0308" * (SHORTEST - 1), False),  # a letter and its mark are one character
        ("ü" * SHORTEST, True),
    ],
)
def test_a_new_passphrase_needs_twelve_characters(text: str, accepted: bool) -> None:
    assert (passphrase_problem(text) == "") is accepted


@pytest.mark.parametrize("words", [("vault", "add-unlock", "passphrase"), ("vault", "export", "copy.vault")])
def test_a_short_passphrase_is_refused_and_nothing_is_written(office: Office, words: tuple[str, ...]) -> None:
    before = {path.name: path.read_bytes() for path in office.folder.iterdir()}
    words = tuple(str(office.folder / word) if word == "copy.vault" else word for word in words)
    ended = office.type(*words, "--passphrase-stdin", stdin=f"{SHORT}\n")
    assert ended.code == 64
    assert "needs 12 characters or more" in ended.err
    assert {path.name: path.read_bytes() for path in office.folder.iterdir()} == before


def test_setup_refuses_a_short_passphrase_and_leaves_nothing(empty_office: Office) -> None:
    place = empty_office.folder / "new"
    more = options(empty_office.simulator, "--key", "passphrase", "--no-verify")
    ended = empty_office.bare("setup", "--folder", str(place), *more, stdin=f"geheim-anna\n{SHORT}\n")
    assert ended.code == 64
    assert "needs 12 characters or more" in ended.err
    assert not place.exists()


def test_an_older_short_passphrase_still_opens(office: Office) -> None:
    from vault import KeyFile, Passphrase, Vault

    with Vault.open(office.folder / "accounts.vault", unlock=KeyFile(office.folder / "vault.key"), write=True) as vault:
        vault.add_unlock(Passphrase(SHORT))
        vault.save()
    ended = office.type("--unlock", "passphrase", "vault", "verify", "--passphrase-stdin", stdin=f"{SHORT}\n")
    assert ended.code == 0, ended.err


def test_a_passphrase_too_short_or_mistyped_is_asked_for_again(office: Office) -> None:
    with at_terminal(office, "--config", str(office.config), "vault", "add-unlock", "passphrase") as terminal:
        terminal.read_until("New passphrase: ")
        terminal.type(SHORT)
        terminal.read_until("needs 12 characters or more")
        terminal.read_until("New passphrase: ")
        terminal.type(LONG)
        terminal.read_until("Repeat: ")
        terminal.type("geheim-anderer Satz")
        terminal.read_until("The two entries differ.")
        terminal.read_until("New passphrase: ")
        terminal.type(LONG)
        terminal.read_until("Repeat: ")
        terminal.type(LONG)
        assert terminal.end() == 0
    assert office.type("--unlock", "passphrase", "vault", "verify", "--passphrase-stdin", stdin=f"{LONG}\n").code == 0


def test_the_passphrase_comes_from_standard_input_or_from_a_file(office: Office) -> None:
    office.add("anna@firma.example")
    office.type("vault", "add-unlock", "passphrase", "--passphrase-stdin", stdin=f"{LONG}\n")
    (office.folder / "vault.key").unlink()
    listed = office.type("--unlock", "passphrase", "--passphrase-stdin", "account", "list", stdin=f"{LONG}\n")
    assert "anna@firma.example" in listed.out
    secret = office.folder / "passphrase"
    secret.write_text(f"{LONG}\n")
    secret.chmod(0o600)
    words = ("--unlock", "passphrase", "--passphrase-file", str(secret))
    assert office.type("account", "list", *words).code == 0
    secret.chmod(0o644)
    refused = office.type("account", "list", *words)
    assert refused.code == 66
    assert f"To fix: chmod 600 {secret}" in refused.err
    both = office.type("account", "list", *words, "--passphrase-stdin", stdin=f"{LONG}\n")
    assert both.code == 64


def test_the_vaults_passphrase_is_read_before_others(office: Office) -> None:
    office.type("vault", "add-unlock", "passphrase", "--passphrase-stdin", stdin=f"{LONG}\n")
    (office.folder / "vault.key").unlink()
    copy = office.folder / "copy.vault"
    words = ("--unlock", "passphrase", "vault", "export", str(copy), "--passphrase-stdin")
    exported = office.type(*words, stdin=f"{LONG}\ngeheim-kopie und mehr\n")
    assert exported.code == 0, exported.err
    account = ("account", "add", "anna@firma.example", "--provider", "ionos", "--no-verify", "--password-stdin")
    added = office.type("--unlock", "passphrase", *account, "--passphrase-stdin", stdin=f"{LONG}\ngeheim-anna\n")
    assert added.code == 0, added.err


def test_a_missing_passphrase_names_the_options(office: Office) -> None:
    ended = office.type("vault", "add-unlock", "passphrase")
    assert ended.code == 64
    assert "--passphrase-file FILE" in ended.err


# ---- the keyring ----


def test_a_keyring_entry_is_made_and_opens_the_vault(office: Office, entries: dict[tuple[str, str], str]) -> None:
    added = office.type("vault", "add-unlock", "keyring:office")
    assert added.code == 0, added.err
    assert "Stored a new key in the keyring" in added.out
    assert list(entries) == [("office", "vault-key")]
    assert office.type("--unlock", "keyring:office", "vault", "verify").code == 0


def test_a_keyring_entry_of_a_failed_command_is_removed(office: Office, entries: dict[tuple[str, str], str]) -> None:
    assert office.type("vault", "add-unlock", "keyring:office", "--label", "two words").code == 64
    assert not entries


def test_a_failed_setup_leaves_no_keyring_entry(empty_office: Office, entries: dict[tuple[str, str], str]) -> None:
    place = empty_office.folder / "new"
    more = options(empty_office.simulator, "--key", "keyring:office")
    ended = empty_office.bare("setup", "--folder", str(place), *more, stdin="geheim-falsch\n")
    assert ended.code == 1
    assert not entries
    assert not place.exists()
    assert empty_office.bare("setup", "--folder", str(place), *more, stdin="geheim-anna\n").code == 0
    assert list(entries) == [("office", "vault-key")]


@pytest.mark.parametrize("verb", ["setup", "add-unlock"])
def test_an_existing_keyring_entry_is_never_used_silently(
    office: Office, entries: dict[tuple[str, str], str], verb: str
) -> None:
    entries["office", "vault-key"] = before = "A" * 43 + "="
    place = office.folder / "new"
    if verb == "setup":
        more = options(office.simulator, "--key", "keyring:office", "--no-verify")
        ended = office.bare("setup", "--folder", str(place), *more, stdin="geheim-anna\n")
    else:
        ended = office.type("vault", "add-unlock", "keyring:office")
    assert ended.code == 73
    assert "the keyring has a key for 'office', 'vault-key' already" in ended.err
    assert "choose another name" in ended.err
    assert entries == {("office", "vault-key"): before}
    assert not place.exists()
    assert len(office.type("vault", "unlocks", "--json").json) == 1


# ---- unlocks with which no service can start ----


@pytest.mark.parametrize(
    ("setting", "alone"),
    [("key-file:/k", True), ("key-file", True), ("credential:k", True), ("passphrase", False), ("keyring:k", False)],
)
def test_a_service_starts_alone_with_a_key_that_needs_no_person(setting: str, alone: bool) -> None:
    assert starts_alone(setting) is alone


def test_setup_says_that_a_service_cannot_ask_and_offers_a_key_file(empty_office: Office) -> None:
    place = empty_office.folder / "new"
    more = options(empty_office.simulator, "--key", "passphrase", "--no-verify")
    ended = empty_office.bare("setup", "--folder", str(place), *more, stdin=f"geheim-anna\n{LONG}\n")
    assert ended.code == 0, ended.err
    assert "A service cannot ask for a passphrase" in ended.out
    assert "vault add-unlock key-file:PATH" in ended.out


@pytest.mark.parametrize(("answer", "made"), [("", True), ("n", False)])
def test_setup_takes_the_key_file_that_it_offers(empty_office: Office, answer: str, made: bool) -> None:
    office, place = empty_office, empty_office.folder / "new"
    words = [word for word in options(office.simulator, "--key", "passphrase", "--no-verify") if word != "--yes"]
    words.remove("--password-stdin")
    listener = ("--listen", f"127.0.0.1:{free_port()}", "--no-catch-all", "--test-to", "none")
    with at_terminal(office, "setup", "--folder", str(place), *words, *listener) as terminal:
        terminal.read_until("Use a key file instead? [Y/n] ")
        terminal.type(answer)
        secrets = {"Password of anna@firma.example: ": "geheim-anna", "Passphrase of the vault: ": LONG}
        for prompt, secret in secrets.items():
            if made and secret == LONG:
                break
            terminal.read_until(prompt)
            terminal.type(secret)
            terminal.read_until("Repeat: ")
            terminal.type(secret)
            if secret != LONG:
                for question in ("IP addresses: ", "Alerts to [none]: "):
                    terminal.read_until(question)
                    terminal.type("")
        assert terminal.end() == 0
    assert (place / "vault.key").exists() is made
