"""Unlock methods."""

import base64
import os
import pickle
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.backends.fail import Keyring as FailKeyring
from keyring.backends.null import Keyring as NullKeyring
from keyring.errors import KeyringLocked as KeyringLockedError

from vault import (
    Damaged,
    Exists,
    KeyFile,
    Keyring,
    KeyringLocked,
    Missing,
    MissingKey,
    NoBackend,
    Passphrase,
    SuppliedKey,
    Unlock,
    UnsafeFile,
    _seal,
)
from vault._seal import Secret

ID = b"i" * 16
DATA_KEY = Secret(b"d" * 32)
AS_ROOT = os.geteuid() == 0


def opens(one: Unlock, other: Unlock) -> bool:
    return other.try_unwrap(one.wrap("label", ID, DATA_KEY), ID) == DATA_KEY


def test_a_passphrase_opens_what_it_locked_and_no_other_does() -> None:
    stanza = Passphrase("geheim-Tür").wrap("anna", ID, DATA_KEY)
    assert Passphrase("geheim-Tür").try_unwrap(stanza, ID) == DATA_KEY
    assert Passphrase("geheim-Tor").try_unwrap(stanza, ID) is None
    assert Passphrase("geheim-Tür").try_unwrap(stanza, b"j" * 16) is None


def test_an_umlaut_typed_on_another_keyboard_opens_as_well() -> None:
    stanza = Passphrase(unicodedata.normalize("NFD", "geheim-Tür")).wrap("anna", ID, DATA_KEY)
    assert Passphrase(unicodedata.normalize("NFC", "geheim-Tür")).try_unwrap(stanza, ID) == DATA_KEY


def test_an_empty_passphrase_is_no_passphrase() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Passphrase("")


def test_without_argon2id_a_passphrase_is_stretched_with_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.kdf.argon2", None)
    stanza = Passphrase("geheim-alt").wrap("old machine", ID, DATA_KEY)
    assert stanza.first_line().startswith("-> passphrase-scrypt old machine 16 8 2 ")
    assert Passphrase("geheim-alt").try_unwrap(stanza, ID) == DATA_KEY


def test_a_vault_that_needs_argon2id_says_so_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stanza = Passphrase("geheim-neu").wrap("new", ID, DATA_KEY)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.kdf.argon2", None)
    with pytest.raises(NoBackend, match="does not support Argon2id") as caught:
        Passphrase("geheim-neu").try_unwrap(stanza, ID)
    assert "pip install --upgrade cryptography" in caught.value.hint


# ---- key files ----


def test_a_generated_key_file_is_private_printable_and_never_the_same(tmp_path: Path) -> None:
    one, other = KeyFile.generate(tmp_path / "one"), KeyFile.generate(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    assert (tmp_path / "one").read_text().startswith("vault-key/v1 ")
    assert opens(one, one)
    assert not opens(one, other)
    assert {entry.name for entry in tmp_path.iterdir()} == {"one", "other"}


def test_generating_a_key_never_overwrites_one(tmp_path: Path) -> None:
    KeyFile.generate(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(Exists):
        KeyFile.generate(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def key_file(path: Path, content: bytes, mode: int = 0o600) -> KeyFile:
    path.write_bytes(content)
    path.chmod(mode)
    return KeyFile(path)


def test_32_and_more_random_bytes_are_a_key_and_fewer_are_not(tmp_path: Path) -> None:
    raw = key_file(tmp_path / "raw", bytes(range(32)))
    assert opens(raw, raw)
    short = key_file(tmp_path / "short", bytes(31))
    with pytest.raises(UnsafeFile, match="31 bytes are too few") as caught:
        short.wrap("x", ID, DATA_KEY)
    assert "head -c 32 /dev/urandom" in caught.value.hint
    with pytest.raises(UnsafeFile, match="too long for a key file"):
        key_file(tmp_path / "long", bytes(100_000)).wrap("x", ID, DATA_KEY)


def test_a_key_that_lost_its_line_end_on_the_way_still_opens(tmp_path: Path) -> None:
    key = KeyFile.generate(tmp_path / "key")
    line = (tmp_path / "key").read_bytes()
    assert opens(key, key_file(tmp_path / "stripped", line.rstrip()))
    assert opens(key, key_file(tmp_path / "from windows", line.rstrip() + b"\r\n"))


def test_a_key_line_that_was_altered_is_not_taken_for_random_bytes(tmp_path: Path) -> None:
    KeyFile.generate(tmp_path / "key")
    line = (tmp_path / "key").read_bytes()
    with pytest.raises(Damaged, match="altered") as caught:
        key_file(tmp_path / "bad", line[:-3] + b"\n").wrap("x", ID, DATA_KEY)
    assert str(tmp_path / "bad") in str(caught.value)
    assert line[13:40].decode() not in str(caught.value)


def test_a_key_file_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile) as caught:
        key_file(tmp_path / "key", bytes(range(32)), mode=0o640).wrap("x", ID, DATA_KEY)
    assert caught.value.hint == f"chmod 600 {tmp_path / 'key'}"


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingKey, match="nowhere"):
        KeyFile(tmp_path / "nowhere").wrap("x", ID, DATA_KEY)


# ---- systemd credentials ----


def test_a_credential_is_found_where_systemd_puts_it(tmp_path: Path) -> None:
    (tmp_path / "vault-key").write_bytes(bytes(range(32)))
    (tmp_path / "vault-key").chmod(0o440)  # systemd shows the service's ACL as the group's read bit
    script = (
        "from vault import KeyFile; from vault._seal import Secret;"
        "key = KeyFile.from_credential('vault-key');"
        "assert key.try_unwrap(key.wrap('x', bytes(16), Secret(bytes(32))), bytes(16)) == Secret(bytes(32))"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={"CREDENTIALS_DIRECTORY": str(tmp_path), "PYTHONPATH": str(root)},
    )


@pytest.mark.parametrize("mode", [0o460, 0o444, 0o602])
def test_a_credential_that_others_can_change_or_everybody_read_is_refused(tmp_path: Path, mode: int) -> None:
    key_file(tmp_path / "vault-key", bytes(range(32)), mode)
    with pytest.raises(UnsafeFile):
        KeyFile.from_credential("vault-key", directory=tmp_path).wrap("x", ID, DATA_KEY)


def test_outside_a_unit_the_error_says_how_to_get_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(NoBackend, match="passed no credentials to this process") as caught:
        KeyFile.from_credential("vault-key")
    assert "LoadCredentialEncrypted=vault-key:" in caught.value.hint


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc/shadow"])
def test_a_credential_is_never_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        KeyFile.from_credential(name, directory="/")


# ---- keyrings: which backends are allowed. test_keyring.py uses a real one. ----


def stand_in(full_name: str) -> KeyringBackend:
    """A keyring backend of that full name that stores entries in memory. Backends are allowed by name only."""
    module, _, name = full_name.rpartition(".")
    kept: dict[tuple[str, str], str] = {}
    body = {
        "__module__": module,
        "priority": 1,
        "get_password": lambda self, service, user: kept.get((service, user)),
        "set_password": lambda self, service, user, password: kept.update({(service, user): password}),
        "delete_password": lambda self, service, user: kept.pop((service, user)),
    }
    made = type(name, (KeyringBackend,), body)()
    KeyringBackend._classes.discard(type(made))  # hide it from other tests
    assert isinstance(made, KeyringBackend)
    return made


class Chain(ChainerBackend):
    """The chain of the keyring package over given backends."""

    priority = 10

    def __init__(self, *backends: KeyringBackend) -> None:
        self._chained = list(backends)

    backends = property(lambda self: self._chained)


KeyringBackend._classes.discard(Chain)
PLAINTEXT = "keyrings.alt.file.PlaintextKeyring"
GOOD = "keyring.backends.SecretService.Keyring"


@pytest.mark.parametrize(
    "backend",
    [
        FailKeyring(),
        NullKeyring(),
        stand_in(PLAINTEXT),
        stand_in("keyrings.alt.file.EncryptedKeyring"),
        stand_in("somebody.new.Keyring"),
        Chain(),
        Chain(stand_in(PLAINTEXT), FailKeyring()),
    ],
    ids=lambda backend: f"{type(backend).__module__}.{type(backend).__name__}",
)
def test_a_keyring_that_is_no_safe_place_is_refused_by_name_with_what_to_use_instead(backend: KeyringBackend) -> None:
    for use in (
        lambda: Keyring.generate("office", backend=backend),
        lambda: opens(*[Keyring("office", backend=backend)] * 2),
    ):
        with pytest.raises(NoBackend) as caught:
            use()
        assert "stores a key safely" in str(caught.value)
        assert "key file, a systemd credential" in caught.value.hint
        assert "passphrase" in caught.value.hint
    assert type(backend).__name__ in str(caught.value) or "PlaintextKeyring" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        GOOD,
        "keyring.backends.libsecret.Keyring",
        "keyring.backends.kwallet.DBusKeyring",
        "keyring.backends.macOS.Keyring",
        "keyring.backends.Windows.WinVaultKeyring",
    ],
)
def test_the_systems_own_keyrings_are_used(name: str) -> None:
    entry = Keyring.generate("office", backend=stand_in(name))
    assert opens(entry, entry)


def test_of_a_chain_only_what_can_be_trusted_sees_the_key() -> None:
    plain, good = stand_in(PLAINTEXT), stand_in(GOOD)
    Keyring.generate("office", service="mail", backend=Chain(plain, good))
    assert good.get_password("mail", "office")
    assert plain.get_password("mail", "office") is None


def test_a_key_in_the_keyring_is_never_overwritten() -> None:
    backend = stand_in(GOOD)
    Keyring.generate("office", backend=backend)
    before = backend.get_password("vault", "office")
    with pytest.raises(Exists) as caught:
        Keyring.generate("office", backend=backend)
    assert backend.get_password("vault", "office") == before
    assert "keyring del vault office" in caught.value.hint


def test_a_keyring_without_the_entry_or_with_another_programs_is_told() -> None:
    backend = stand_in(GOOD)
    with pytest.raises(MissingKey, match="has no key for 'vault', 'office'"):
        Keyring("office", backend=backend).wrap("x", ID, DATA_KEY)
    backend.set_password("vault", "office", "geheim-foreign")
    with pytest.raises(Damaged, match="not a vault key") as caught:
        Keyring("office", backend=backend).wrap("x", ID, DATA_KEY)
    assert "geheim" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "chosen", ["keyring.backends.null.Keyring", "no.such.Keyring", "keyring.backends.fail.Keyring"]
)
def test_whatever_the_environment_makes_keyring_choose_the_policy_holds(chosen: str, tmp_path: Path) -> None:
    script = (
        "from vault import Keyring, NoBackend\n"
        "try: Keyring.generate('office')\n"
        "except NoBackend as error: print(error, error.hint)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHON_KEYRING_BACKEND": chosen, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
    ).stdout
    assert "key file" in output


class Hanging(KeyringBackend):
    """A Secret Service that asks for a password and gets no answer until `answered`; then it is unlocked."""

    priority = 1

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.calls = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.calls += 1
        self.answered.wait()
        return base64.b64encode(b"k" * 32).decode()

    def set_password(self, service: str, username: str, password: str) -> None:
        self.answered.wait()

    def end(self) -> None:
        """Respond, and wait for the threads that asked."""
        self.answered.set()
        for thread in threading.enumerate():
            if thread.name == "keyring":
                thread.join(30)


Hanging.__module__, Hanging.__qualname__ = GOOD.rsplit(".", 1)
KeyringBackend._classes.discard(Hanging)


def test_a_keyring_that_does_not_respond_is_given_up_in_time_and_used_once_it_responds() -> None:
    backend = Hanging()
    key = Keyring("office", backend=backend, timeout_seconds=0.02)
    try:
        for _ in range(3):
            with pytest.raises(KeyringLocked, match="locked or does not respond") as caught:
                key.wrap("x", ID, DATA_KEY)
            assert "Unlock the keyring" in caught.value.hint
    finally:
        backend.end()
    patient = Keyring("office", backend=backend, timeout_seconds=30)
    assert opens(patient, patient)


def test_the_threads_that_wait_for_a_keyring_are_bounded() -> None:
    backend = Hanging()
    key = Keyring("office", backend=backend, timeout_seconds=0.01)
    try:
        for _ in range(20):
            with pytest.raises(KeyringLocked):
                key.wrap("x", ID, DATA_KEY)
        assert backend.calls <= 4
        assert sum(thread.name == "keyring" for thread in threading.enumerate()) <= 4
    finally:
        backend.end()


def test_a_keyring_that_says_it_is_locked_and_one_that_fails_are_different_errors() -> None:
    backend = stand_in(GOOD)
    for error, kind in ((KeyringLockedError("no answer"), KeyringLocked), (OSError("no bus"), NoBackend)):
        type(backend).get_password = raising(error)  # type: ignore[method-assign]
        with pytest.raises(NoBackend) as caught:
            Keyring("office", backend=backend).wrap("x", ID, DATA_KEY)
        assert type(caught.value) is kind


def raising(error: Exception) -> Callable[..., str | None]:
    """A method that raises the error."""

    def raises(*_arguments: object) -> str | None:
        raise error

    return raises


# ---- no unlock method shows its secret ----


@pytest.mark.parametrize(
    "method",
    [Passphrase("geheim-face"), KeyFile("/etc/geheim-is-only-a-path"), Keyring("office")],
    ids=lambda method: method.kind,
)
def test_no_way_to_unlock_shows_its_secret_or_is_pickled(method: Unlock) -> None:
    assert "geheim-face" not in f"{method} {method!r} {vars(method)}"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(method)


def test_stretching_takes_the_parameters_of_rfc_9106() -> None:
    assert (_seal.ARGON2ID_COST.passes, _seal.ARGON2ID_COST.lanes, _seal.ARGON2ID_COST.kibibytes) == (3, 4, 65536)


def test_a_supplied_key_opens_what_the_key_file_of_the_same_content_locked(tmp_path: Path) -> None:
    content = SuppliedKey.new_content()
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    supplied = SuppliedKey(lambda: content, source=tmp_path / "sealed")
    assert opens(KeyFile(tmp_path / "key"), supplied)
    assert opens(supplied, KeyFile(tmp_path / "key"))
    assert not opens(SuppliedKey(SuppliedKey.new_content, source=tmp_path / "sealed"), supplied)
    assert content.decode().split()[1] not in repr(supplied)


def test_a_supplied_key_that_is_short_or_altered_is_refused_by_its_source(tmp_path: Path) -> None:
    for content in (b"", b"short", b"vault-key/v1 altered\n", b"x" * 70_000):
        with pytest.raises((Damaged, UnsafeFile), match="sealed"):
            SuppliedKey(partial(bytes, content), source=tmp_path / "sealed").wrap("label", ID, DATA_KEY)


def test_a_removed_keyring_entry_opens_nothing() -> None:
    backend = stand_in(GOOD)
    key = Keyring.generate("office", service="vault-test", backend=backend)
    key.remove()
    with pytest.raises(Missing):
        key.wrap("label", ID, DATA_KEY)
