"""Unlock methods of a vault: passphrase, key file, system keyring.

Guarantees: no method shows its secret in a repr, an exception or a pickle. A key file has to pass the same permission
checks as the vault. A keyring is used only if it encrypts and does not prompt; it has a limited time to respond.

Not here: key derivation and wrapping (_seal), the choice of a method (the caller).
"""

import base64
import os
import queue
import re
import shlex
import threading
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self, TypeVar, cast

from vault import _file, _format, _seal
from vault._errors import Damage, Damaged, Exists, KeyringLocked, Missing, MissingKey, NoBackend, UnsafeFile
from vault._file import AccessRule, SystemCalls
from vault._format import Cost, KeyWrapping, PassphraseWrapping, Stanza, UnlockKind
from vault._seal import Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend
    from keyring.backends.chainer import ChainerBackend


class Unlock(ABC):
    """One unlock method with its secret."""

    kind: ClassVar[str]
    """Name for people; also the label if the caller gives none."""

    @abstractmethod
    def wrap(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        """Wrap the data key with this secret."""

    @abstractmethod
    def try_unwrap(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        """Return the data key, None if the stanza is of another kind or was made with another secret."""

    def __reduce__(self) -> str:
        raise TypeError("an unlock method cannot be pickled")


class Passphrase(Unlock):
    """A passphrase. Its key is derived slowly, because passphrases are short."""

    kind = "passphrase"

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a passphrase must not be empty")
        # NFC: keyboards compose umlauts in different ways
        self._secret = Secret(unicodedata.normalize("NFC", text).encode("utf-8"))

    def wrap(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        cost, salt = _seal.usual_cost(), _seal.new_salt()
        unwrapped = Stanza(label, PassphraseWrapping(cost, salt, b""))
        wrapped = _seal.wrap(
            _seal.derive_from_passphrase(self._secret, salt, cost),
            salt,
            _associated_data(unwrapped, vault_id),
            data_key,
        )
        return Stanza(label, PassphraseWrapping(cost, salt, wrapped))

    def try_unwrap(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        match stanza.wrapping:
            case PassphraseWrapping(cost, salt, wrapped):
                key = _seal.derive_from_passphrase(self._secret, salt, cost)
                return _seal.unwrap(key, salt, _associated_data(stanza, vault_id), wrapped)
            case _:
                return None

    def derive_key(self, salt: bytes, cost: Cost) -> Secret:
        """Return the key of a stream: 32 bytes, derived slowly. Raises NoBackend."""
        return _seal.derive_from_passphrase(self._secret, salt, cost)

    def __repr__(self) -> str:
        return "Passphrase(…)"


class _StoredSecret(Unlock):
    """A random secret stored elsewhere. It is long enough to need no slow derivation."""

    _kind: ClassVar[UnlockKind]

    @abstractmethod
    def _secret(self) -> Secret:
        """Read the secret from its store."""

    def wrap(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        salt = _seal.new_salt()
        unwrapped = Stanza(label, KeyWrapping(self._kind, salt, b""))
        wrapped = _seal.wrap(self._secret(), salt, _associated_data(unwrapped, vault_id), data_key)
        return Stanza(label, KeyWrapping(self._kind, salt, wrapped))

    def try_unwrap(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        match stanza.wrapping:
            case KeyWrapping(kind, salt, wrapped) if kind is self._kind:
                return _seal.unwrap(self._secret(), salt, _associated_data(stanza, vault_id), wrapped)
            case _:
                return None


def _associated_data(stanza: Stanza, vault_id: bytes) -> bytes:
    """Associated data of a wrapped key: the id of its vault and the first line of its stanza."""
    return vault_id + stanza.first_line().encode("ascii")


# ---- key files ----

_KEY_LINE: Final = re.compile(rb"vault-key/v1 ([A-Za-z0-9+/]{43}=)\s*")
_KEY_FILE_LIMIT: Final = 64 * 1024  # octets; a longer file was named by mistake


class KeyFile(_StoredSecret):
    """A file with a key: one line as `generate` writes it, or at least 32 random bytes."""

    kind = "key-file"
    _kind = UnlockKind.KEY_FILE

    def __init__(self, path: Path | str, *, _access: AccessRule = AccessRule.OWN) -> None:
        self.path: Final = Path(path)
        self._access = _access

    @classmethod
    def generate(cls, path: Path | str) -> Self:
        """Write a new random key, readable by its owner only. Raises Exists if the file exists."""
        _file.create(Path(path), SuppliedKey.new_content(), SystemCalls())
        return cls(path)

    @classmethod
    def from_credential(cls, name: str, *, directory: Path | str | None = None) -> Self:
        """Use the key that systemd passes to a unit with LoadCredential= or LoadCredentialEncrypted=."""
        if not name or "/" in name or name in (".", ".."):
            raise ValueError("a credential's name must be a plain file name")
        directory = directory or os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise NoBackend(
                f"no credential {name!r}: systemd passed no credentials to this process",
                hint=f"Add LoadCredentialEncrypted={name}:/etc/credstore.encrypted/{name} to the unit and start it "
                "with systemctl. Outside a unit, unlock with a key file or a passphrase.",
            )
        return cls(Path(directory) / name, _access=AccessRule.CREDENTIAL)

    def _secret(self) -> Secret:
        try:
            content, _ = _file.read_private(self.path, limit=_KEY_FILE_LIMIT, disk=SystemCalls(), access=self._access)
        except Missing as error:
            hint = "Put it back from its copy, or use another unlock method."
            raise MissingKey("there is no such key file", hint=hint, path=self.path) from error
        return _read_key(content, self.path)

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"


class SuppliedKey(_StoredSecret):
    """The content of a key file, from a function that the caller gives: called each time the key is needed."""

    kind = KeyFile.kind
    _kind = UnlockKind.KEY_FILE

    def __init__(self, supply: Callable[[], bytes], *, source: Path) -> None:
        """`source` is named in errors."""
        self._supply = supply
        self._source = source

    @staticmethod
    def new_content() -> bytes:
        """Return the content of a key file with a new random key."""
        return f"vault-key/v1 {_format.to_base64(_seal.new_key().reveal())}\n".encode("ascii")

    def _secret(self) -> Secret:
        return _read_key(self._supply(), self._source)

    def __repr__(self) -> str:
        return f"SuppliedKey({str(self._source)!r})"


def _read_key(content: bytes, path: Path) -> Secret:
    """Read the content of a key file; `path` is named in errors."""
    if len(content) > _KEY_FILE_LIMIT:
        raise UnsafeFile("this is too long for a key file", hint="Name the key file.", path=path)
    if content.startswith(b"vault-key/"):
        line = _KEY_LINE.fullmatch(content)
        if line is None:
            damaged = Damaged("this key was altered", damage=Damage.MALFORMED, hint="Restore it from a backup.")
            damaged.set_path(path)
            raise damaged
        return Secret(base64.b64decode(line[1]))
    if len(content) < _format.KEY_BYTES:
        raise UnsafeFile(
            f"{len(content)} bytes are too few for a key; it needs {_format.KEY_BYTES} random bytes",
            hint="Create one from random bytes: head -c 32 /dev/urandom > NEW_FILE",
            path=path,
        )
    return Secret(content)


# ---- the system's keyring ----

# Backends that encrypt at rest and answer without a prompt. All others are refused: keyrings.alt stores plain text or
# prompts, null stores nothing, fail always fails, and of an unknown one nothing is known.
_ALLOWED_BACKENDS: Final = {
    "keyring.backends.SecretService.Keyring": "Secret Service",
    "keyring.backends.libsecret.Keyring": "Secret Service, through libsecret",
    "keyring.backends.kwallet.DBusKeyring": "KWallet",
    "keyring.backends.macOS.Keyring": "macOS Keychain",
    "keyring.backends.Windows.WinVaultKeyring": "Windows Credential Manager",
}
_KEYRING_HINT: Final = (
    "Use a key file, a systemd credential (LoadCredentialEncrypted=) or a passphrase instead. A keyring needs a "
    "desktop session with an unlocked Secret Service or KWallet."
)
_LOCKED_HINT: Final = "Unlock the keyring (a desktop login does that) and try again, or use another unlock method."
KEYRING_TIMEOUT: Final = 10.0  # seconds; an unlocked keyring responds within milliseconds
_ABANDONED_LIMIT: Final = 4  # threads that wait for a keyring without an end; then none is started
_abandoned: Final[list[threading.Thread]] = []
_T = TypeVar("_T")


class Keyring(_StoredSecret):
    """A random key stored under a name in the system's keyring. Used only if the caller asks for it."""

    kind = "keyring"
    _kind = UnlockKind.KEYRING

    def __init__(
        self,
        name: str,
        *,
        service: str = "vault",
        backend: "KeyringBackend | None" = None,
        timeout_seconds: float = KEYRING_TIMEOUT,
    ) -> None:
        self.name: Final = name
        self.service: Final = service
        self._backend = backend
        self._timeout = timeout_seconds

    @classmethod
    def generate(cls, name: str, *, service: str = "vault", backend: "KeyringBackend | None" = None) -> Self:
        """Store a new random key in the keyring. Raises Exists if there is one of that name."""
        if _within(KEYRING_TIMEOUT, lambda: _allowed_backend(backend).get_password(service, name)) is not None:
            raise Exists(
                f"the keyring has a key for {service!r}, {name!r} already",
                hint="Use that key, choose another name, or remove the key once no vault needs it: "
                + shlex.join(["keyring", "del", service, name]),
            )
        new = Secret(_format.to_base64(_seal.new_key().reveal()).encode("ascii"))
        _within(
            KEYRING_TIMEOUT, lambda: _allowed_backend(backend).set_password(service, name, new.reveal().decode("ascii"))
        )
        return cls(name, service=service, backend=backend)

    def remove(self) -> None:
        """Delete the key from the keyring. A vault without another unlock is lost then."""
        _within(self._timeout, lambda: _allowed_backend(self._backend).delete_password(self.service, self.name))

    def _secret(self) -> Secret:
        stored = _within(self._timeout, lambda: _allowed_backend(self._backend).get_password(self.service, self.name))
        if stored is None:
            raise MissingKey(
                f"the keyring has no key for {self.service!r}, {self.name!r}",
                hint="Log in as the user who created it, or use another unlock method.",
            )
        try:
            return Secret(_format.from_base64(stored, "the keyring's entry", _format.KEY_BYTES))
        except Damaged:
            raise Damaged(
                f"the keyring's entry for {self.service!r}, {self.name!r} is not a vault key",
                damage=Damage.MALFORMED,
                hint="Use another unlock method, and add the keyring again under another name.",
            ) from None

    def __repr__(self) -> str:
        return f"Keyring({self.name!r}, service={self.service!r})"


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Call the keyring on a thread of its own. Raises KeyringLocked if it does not respond in time, or NoBackend.

    A backend that asks for a password waits for the answer without limit, and D-Bus for its daemon. The thread is
    abandoned then; it does not prevent the exit of the process.
    """
    _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
    if len(_abandoned) >= _ABANDONED_LIMIT:
        raise _locked()
    answer: queue.SimpleQueue[tuple[_T, None] | tuple[None, NoBackend]] = queue.SimpleQueue()

    def run() -> None:
        try:
            with _keyring_errors():
                answer.put((call(), None))
        except NoBackend as error:
            answer.put((None, error))

    thread = threading.Thread(target=run, name="keyring", daemon=True)
    thread.start()
    try:
        result, error = answer.get(timeout=seconds)
    except queue.Empty:
        _abandoned.append(thread)
        raise _locked() from None
    if error is not None:
        raise error
    return cast("_T", result)


def _locked() -> KeyringLocked:
    return KeyringLocked("the keyring is locked or does not respond", hint=_LOCKED_HINT)


def _allowed_backend(backend: "KeyringBackend | None") -> "KeyringBackend":
    """Return the backend to use: of a chain, only the first allowed one. Raises NoBackend if none is allowed."""
    found = backend or _default_backend()
    candidates = list(found.backends) if isinstance(found, _chainer()) else [found]
    for candidate in candidates:
        if _full_name(candidate) in _ALLOWED_BACKENDS:
            return candidate
    names = ", ".join(map(_full_name, candidates)) or _full_name(found)
    raise NoBackend(f"no keyring on this machine stores a key safely (found: {names})", hint=_KEYRING_HINT)


def _default_backend() -> "KeyringBackend":
    import keyring

    return keyring.get_keyring()


def _chainer() -> "type[ChainerBackend]":
    from keyring.backends.chainer import ChainerBackend

    return ChainerBackend


def _full_name(backend: "KeyringBackend") -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


@contextmanager
def _keyring_errors() -> Iterator[None]:
    """Turn every exception of a backend into NoBackend: each raises those of its own D-Bus or C library."""
    try:
        yield
    except NoBackend:
        raise
    except Exception as error:
        from keyring import errors

        if isinstance(error, errors.KeyringLocked):
            raise _locked() from error
        raise NoBackend(f"the keyring cannot be used ({type(error).__name__}: {error})", hint=_KEYRING_HINT) from error
