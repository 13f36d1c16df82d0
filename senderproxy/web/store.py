"""Users, links and sessions of the page, in files of its own folder.

Guarantees: a file is replaced as a whole, belongs to the owner of the folder and is for it alone (0600). Passwords are
salted hashes; of links and sessions only a digest is stored, so that a copy of the folder lets nobody in. A link is
good once, for LINK_SECONDS. A session ends after SESSION_SECONDS, with its user, or with the user's password. The
number of each is bounded.
Not here: the check of passwords (web.passwords), the cookie (web.site).
"""

import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from senderproxy.control.protocol import Role
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

LINK_SECONDS: Final = 600  # seconds that a link is good
SESSION_SECONDS: Final = 12 * 3600  # a working day
USERS_LIMIT: Final = 100  # users at most
_LINKS_LIMIT: Final = 20  # links that are good; the oldest one ends
_SESSIONS_LIMIT: Final = 200  # the oldest one ends
_SIZE: Final = 256 * 1024  # octets of a file that is read
_TOKEN: Final = 32  # octets
_NAME: Final = 64  # characters of a user's name
LINK_USER: Final = ""  # of a session that a link has begun


class StoreError(SenderproxyError):
    """The page's folder cannot be used, or a request contradicts its content."""


@dataclass(frozen=True, slots=True)
class PageUser:
    """A user with a password."""

    name: str
    role: Role
    password: str  # its hash

    def __repr__(self) -> str:
        return f"PageUser({self.name!r}, {self.role!r})"


@dataclass(frozen=True, slots=True)
class PageSession:
    """A login. `user`: empty if it came from a link."""

    user: str
    role: Role
    until: datetime


def is_user_name(name: str) -> bool:
    """True if the name is short and printable, without blanks at its ends."""
    return 0 < len(name) <= _NAME and name.isprintable() and name == name.strip()


class Store:
    """The folder. Its methods read the files each time: the command line changes them, too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # ---- users ----

    def users(self) -> dict[str, PageUser]:
        """The users by name."""
        return {
            name: PageUser(name, Role(entry["role"]), str(entry["password"]))
            for name, entry in self._read("users.json").items()
        }

    def put_user(self, user: PageUser, *, replace: bool) -> None:
        """Add a user, or replace one and end the user's sessions. Raises StoreError if the user exists, or does not."""
        with self._locked():
            users = self._read("users.json")
            if replace and user.name not in users:
                raise StoreError(_("There is no user {name}.").format(name=user.name), hint="senderproxy web user list")
            if not replace and user.name in users:
                raise StoreError(
                    _("There is a user {name} already.").format(name=user.name),
                    hint="senderproxy web user passwd",
                )
            if len(users) >= USERS_LIMIT and user.name not in users:
                raise StoreError(_("There are {count} users already.").format(count=USERS_LIMIT))
            users[user.name] = {"role": user.role.value, "password": user.password}
            self._write("users.json", users)
            self._end_sessions(user.name)

    def remove_user(self, name: str) -> None:
        """Remove a user and end the user's sessions. Raises StoreError if there is none."""
        with self._locked():
            users = self._read("users.json")
            if users.pop(name, None) is None:
                raise StoreError(_("There is no user {name}.").format(name=name), hint="senderproxy web user list")
            self._write("users.json", users)
            self._end_sessions(name)

    # ---- links ----

    def new_link(self, role: Role, now: datetime) -> str:
        """The secret part of a new link. Raises StoreError."""
        token = secrets.token_urlsafe(_TOKEN)
        with self._locked():
            links = _current(self._read("links.json"), now)
            links[_digest(token)] = {"role": role.value, "until": _in(now, LINK_SECONDS).isoformat()}
            self._write("links.json", dict(list(links.items())[-_LINKS_LIMIT:]))
        return token

    def has_link(self, token: str, now: datetime) -> bool:
        """True if the link is still good."""
        return _digest(token) in _current(self._read("links.json"), now)

    def take_link(self, token: str, now: datetime) -> Role | None:
        """The role of a link, and the end of that link; None if it was not good."""
        with self._locked():
            links = _current(self._read("links.json"), now)
            entry = links.pop(_digest(token), None)
            if entry is None:
                return None
            self._write("links.json", links)
            return Role(entry["role"])

    # ---- sessions ----

    def new_session(self, user: str, role: Role, now: datetime) -> str:
        """The secret of a new session, for the cookie. Raises StoreError."""
        token = secrets.token_urlsafe(_TOKEN)
        with self._locked():
            sessions = _current(self._read("sessions.json"), now)
            until = _in(now, SESSION_SECONDS).isoformat()
            sessions[_digest(token)] = {"user": user, "role": role.value, "until": until}
            self._write("sessions.json", dict(list(sessions.items())[-_SESSIONS_LIMIT:]))
        return token

    def session(self, token: str, now: datetime) -> PageSession | None:
        """The session of a cookie; None if there is none any more."""
        entry = _current(self._read("sessions.json"), now).get(_digest(token))
        return entry and PageSession(str(entry["user"]), Role(entry["role"]), datetime.fromisoformat(entry["until"]))

    def end_session(self, token: str) -> None:
        """End a session."""
        with self._locked():
            sessions = self._read("sessions.json")
            if sessions.pop(_digest(token), None) is not None:
                self._write("sessions.json", sessions)

    def _end_sessions(self, user: str) -> None:
        sessions = self._read("sessions.json")
        self._write("sessions.json", {key: entry for key, entry in sessions.items() if entry["user"] != user})

    # ---- a copy of the service's settings ----

    def keep_settings(self, settings: dict[str, Any]) -> None:
        """Keep the service's settings for a start of the page while the service does not run."""
        with self._locked():
            if self._read("settings.json") != settings:
                self._write("settings.json", settings)

    def settings(self) -> dict[str, Any]:
        """The settings that were kept; empty if there are none."""
        return self._read("settings.json")

    # ---- failed logins ----

    def keep_failures(self, entries: dict[str, Any]) -> None:
        """Keep the failed logins for the process that comes next."""
        with self._locked():
            self._write("failures.json", entries)

    def take_failures(self) -> dict[str, Any]:
        """The failed logins of the process before; empty if it had none."""
        try:
            return self._read("failures.json")
        except StoreError:
            return {}

    # ---- files ----

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            file = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._give_to_owner(file)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            file = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(file, "rb") as source:
                is_file = stat.S_ISREG(os.fstat(file).st_mode)
                found = json.loads(source.read(_SIZE)) if is_file else None
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from error
        except ValueError as error:
            raise StoreError(
                _("The page's file {path} is damaged: {error}.").format(path=self._folder / name, error=error),
                hint=_("Delete it; users, links and logins in it have to be made again."),
            ) from error
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, entries: dict[str, Any]) -> None:
        temporary = self._folder / f".{name}"
        try:
            temporary.unlink(missing_ok=True)
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as out:
                self._give_to_owner(file)
                out.write(json.dumps(entries).encode("ascii"))
                out.flush()
                os.fsync(file)
            temporary.replace(self._folder / name)
        except OSError as error:
            raise self._unusable(error) from error

    def _give_to_owner(self, file: int) -> None:
        """As root, give a new file to the owner of the folder."""
        if os.geteuid() == 0:
            owner = self._folder.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            _("The page's folder {path} cannot be used: {error}.").format(
                path=self._folder, error=error.strerror or error
            ),
            hint=_("Use sudo; the package makes the folder, docs/web.md has its owner and mode."),
        )


def _current(entries: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {key: entry for key, entry in entries.items() if datetime.fromisoformat(entry["until"]) > now}


def _in(now: datetime, seconds: int) -> datetime:
    return now + timedelta(seconds=seconds)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
