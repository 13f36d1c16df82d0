"""The ways to unlock a vault: something known, a file, the system's keyring.

Guarantees: a way shows its secret to nobody: no repr, no exception, no pickle. A key file is read with the same
suspicion as the vault itself; a keyring is used only if it encrypts and does not ask questions.
Not here: deriving and wrapping (_seal), which way is right (the caller).
"""

import base64
import os
import re
import shlex
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from vault import _file, _format, _seal
from vault._errors import Damage, Damaged, Exists, Missing, NoBackend, Unsafe
from vault._file import SystemCalls, Trust
from vault._format import KeyLock, PassphraseLock, Stanza, UnlockKind
from vault._seal import Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend
    from keyring.backends.chainer import ChainerBackend


class Unlock(ABC):
    """A way to unlock a vault."""

    kind: ClassVar[str]
    """As people speak of it; also the label it gets when none is chosen."""

    @abstractmethod
    def lock(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        """Wrap the data key so that this way opens it."""

    @abstractmethod
    def try_on(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        """Give the data key, or None where the stanza is of another kind or another secret's."""

    def __reduce__(self) -> str:
        raise TypeError("a way to unlock is not pickled")


class Passphrase(Unlock):
    """Something a person knows; stretched, because people choose short ones."""

    kind = "passphrase"

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a passphrase is not empty")
        # one passphrase, however the keyboard composes its umlauts
        self._secret = Secret(unicodedata.normalize("NFC", text).encode("utf-8"))

    def lock(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        cost, salt = _seal.usual_cost(), _seal.new_salt()
        draft = Stanza(label, PassphraseLock(cost, salt, b""))
        wrapped = _seal.wrap(
            _seal.derive_from_passphrase(self._secret, salt, cost), salt, _bound(draft, vault_id), data_key
        )
        return Stanza(label, PassphraseLock(cost, salt, wrapped))

    def try_on(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        match stanza.lock:
            case PassphraseLock(cost, salt, wrapped):
                key = _seal.derive_from_passphrase(self._secret, salt, cost)
                return _seal.unwrap(key, salt, _bound(stanza, vault_id), wrapped)
            case _:
                return None

    def __repr__(self) -> str:
        return "Passphrase(…)"


class _StoredSecret(Unlock):
    """A random secret that is kept elsewhere; long enough to need no stretching."""

    _kind: ClassVar[UnlockKind]

    @abstractmethod
    def _secret(self) -> Secret:
        """Fetch it from where it is kept."""

    def lock(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        salt = _seal.new_salt()
        draft = Stanza(label, KeyLock(self._kind, salt, b""))
        wrapped = _seal.wrap(self._secret(), salt, _bound(draft, vault_id), data_key)
        return Stanza(label, KeyLock(self._kind, salt, wrapped))

    def try_on(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        match stanza.lock:
            case KeyLock(kind, salt, wrapped) if kind is self._kind:
                return _seal.unwrap(self._secret(), salt, _bound(stanza, vault_id), wrapped)
            case _:
                return None


def _bound(stanza: Stanza, vault_id: bytes) -> bytes:
    """What a wrapped key is bound to: its vault, and the stanza's first line."""
    return vault_id + stanza.head().encode("ascii")


# ---- key files ----

_KEY_LINE: Final = re.compile(rb"vault-key/v1 ([A-Za-z0-9+/]{43}=)\s*")
_KEY_FILE_LIMIT: Final = 64 * 1024


class KeyFile(_StoredSecret):
    """A file that holds a key: one line as `generate` writes it, or any 32 and more random bytes."""

    kind = "key-file"
    _kind = UnlockKind.KEY_FILE

    def __init__(self, path: Path | str, *, _trust: Trust = Trust.OWN) -> None:
        self.path: Final = Path(path)
        self._trust = _trust

    @classmethod
    def generate(cls, path: Path | str) -> Self:
        """Write a new random key, readable by its owner alone; a file that is there already is left alone."""
        line = f"vault-key/v1 {_format.to_base64(_seal.new_key().reveal())}\n"
        _file.create(Path(path), line.encode("ascii"), SystemCalls())
        return cls(path)

    @classmethod
    def from_credential(cls, name: str, *, directory: Path | str | None = None) -> Self:
        """Find the key that systemd hands to a unit with LoadCredential= or LoadCredentialEncrypted=."""
        if not name or "/" in name or name in (".", ".."):
            raise ValueError("a credential's name is a plain file name")
        directory = directory or os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise NoBackend(
                f"no credential {name!r}: systemd handed this process no credentials",
                hint=f"Add LoadCredentialEncrypted={name}:/etc/credstore.encrypted/{name} to the unit and start it "
                "with systemctl. Outside a unit, unlock with a key file or a passphrase.",
            )
        return cls(Path(directory) / name, _trust=Trust.CREDENTIAL)

    def _secret(self) -> Secret:
        content, _ = _file.read_private(self.path, limit=_KEY_FILE_LIMIT, disk=SystemCalls(), trust=self._trust)
        if len(content) > _KEY_FILE_LIMIT:
            raise Unsafe("this is far too long for a key file", hint="Name the key file.", path=self.path)
        if content.startswith(b"vault-key/"):
            return self._from_line(content)
        if len(content) < _format.KEY_BYTES:
            raise Unsafe(
                f"{len(content)} bytes are too few for a key; it takes {_format.KEY_BYTES} random ones",
                hint="Make one of random bytes: head -c 32 /dev/urandom > NEW_FILE",
                path=self.path,
            )
        return Secret(content)

    def _from_line(self, content: bytes) -> Secret:
        line = _KEY_LINE.fullmatch(content)
        if line is None:
            damaged = Damaged("this key was altered", damage=Damage.MALFORMED, hint="Bring it back from a backup.")
            damaged.about(self.path)
            raise damaged
        return Secret(base64.b64decode(line[1]))

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"


# ---- the system's keyring ----

# Those that encrypt at rest and answer a program without asking a person. Everything else keyring may find is
# refused: keyrings.alt stores plain text or prompts, null forgets, fail fails, and an unknown one is unknown.
_TRUSTED: Final = {
    "keyring.backends.SecretService.Keyring": "Secret Service",
    "keyring.backends.libsecret.Keyring": "Secret Service, through libsecret",
    "keyring.backends.kwallet.DBusKeyring": "KWallet",
    "keyring.backends.macOS.Keyring": "macOS Keychain",
    "keyring.backends.Windows.WinVaultKeyring": "Windows Credential Manager",
}
_INSTEAD: Final = (
    "Use a key file, a systemd credential (LoadCredentialEncrypted=) or a passphrase instead; a keyring needs a "
    "desktop session whose Secret Service or KWallet is unlocked."
)


class Keyring(_StoredSecret):
    """A random key kept under a name in the system's keyring. Used only where somebody asks for it by this name."""

    kind = "keyring"
    _kind = UnlockKind.KEYRING

    def __init__(self, name: str, *, service: str = "vault", backend: "KeyringBackend | None" = None) -> None:
        self.name: Final = name
        self.service: Final = service
        self._backend = backend

    @classmethod
    def generate(cls, name: str, *, service: str = "vault", backend: "KeyringBackend | None" = None) -> Self:
        """Put a new random key into the keyring; one that is there already is left alone."""
        keyring = _trusted(backend)
        if _stored(keyring, service, name) is not None:
            raise Exists(
                f"the keyring holds a key for {service!r}, {name!r} already",
                hint="Use that one, choose another name, or remove it once no vault needs it: "
                + shlex.join(["keyring", "del", service, name]),
            )
        with _keyring_words():
            keyring.set_password(service, name, _format.to_base64(_seal.new_key().reveal()))
        return cls(name, service=service, backend=backend)

    def _secret(self) -> Secret:
        stored = _stored(_trusted(self._backend), self.service, self.name)
        if stored is None:
            raise Missing(
                f"the keyring holds no key for {self.service!r}, {self.name!r}",
                hint="Log in as the user who made it, or unlock in another way.",
            )
        try:
            return Secret(_format.from_base64(stored, "the keyring's entry", _format.KEY_BYTES))
        except Damaged:
            raise Damaged(
                f"the keyring's entry for {self.service!r}, {self.name!r} is no key of ours",
                damage=Damage.MALFORMED,
                hint="Unlock in another way, and add the keyring anew under another name.",
            ) from None

    def __repr__(self) -> str:
        return f"Keyring({self.name!r}, service={self.service!r})"


def _stored(keyring: "KeyringBackend", service: str, name: str) -> str | None:
    with _keyring_words():
        return keyring.get_password(service, name)


def _trusted(backend: "KeyringBackend | None") -> "KeyringBackend":
    """The backend to use, or why there is none. Of a chain, the best of those that can be trusted, and it alone."""
    with _keyring_words():
        found = backend or _default_backend()
        candidates = list(found.backends) if isinstance(found, _chainer()) else [found]
    for candidate in candidates:
        if _full_name(candidate) in _TRUSTED:
            return candidate
    names = ", ".join(map(_full_name, candidates)) or _full_name(found)
    raise NoBackend(f"no keyring here is fit to guard a key (found: {names})", hint=_INSTEAD)


def _default_backend() -> "KeyringBackend":
    import keyring

    return keyring.get_keyring()


def _chainer() -> "type[ChainerBackend]":
    from keyring.backends.chainer import ChainerBackend

    return ChainerBackend


def _full_name(backend: "KeyringBackend") -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


@contextmanager
def _keyring_words() -> Iterator[None]:
    """Let every failure of a backend leave as NoBackend: each raises what its own D-Bus or C library raises."""
    try:
        yield
    except Exception as error:
        raise NoBackend(f"the keyring cannot be used ({type(error).__name__}: {error})", hint=_INSTEAD) from error
