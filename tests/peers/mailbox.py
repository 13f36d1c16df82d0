"""Dovecot's IMAP server for one mailbox with a password: its folders, their special use and a quota are the test's.

Guarantees: messages are those that the server stored, as they are on its disk, with flags and date.
Not here: the IMAP server for access tokens (imap).
"""

import imaplib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.peers.dovecot import Dovecot, is_dovecot_2_4, listener_settings, login_settings, maildir_settings
from tests.peers.process import LOOPBACK, PATIENCE

LOGIN, PASSWORD = "anna@firma.example", "geheim-anna"


@dataclass(frozen=True)
class StoredMessage:
    """One message on the server's disk. `flags`: of the maildir, `S` for \\Seen."""

    content: bytes
    flags: str
    date: datetime


_CONNECTED = ("01", "08")  # ESTABLISHED; CLOSE_WAIT: the client has gone, and the server has not ended yet


class DovecotMailbox(Dovecot):
    """A server on a port, in a folder of its own.

    `folders`: created at the first login, each with its special use or an empty text. `prefix`: of all folders but the
    inbox. `quota_kilobytes`: of the whole mailbox. `passwords`: by login; all have the same mailbox.
    """

    name = "mailbox"

    def __init__(
        self,
        folder: Path,
        port: int,
        folders: Mapping[str, str],
        *,
        prefix: str = "",
        quota_kilobytes: int | None = None,
        passwords: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder / self.name, port)
        self._folders = folders
        self._prefix = prefix
        self._quota_kilobytes = quota_kilobytes
        self._passwords = {LOGIN: PASSWORD} if passwords is None else passwords

    @property
    def port(self) -> int:
        return self._port

    def change_quota(self, kilobytes: int | None) -> None:
        """Stop, and start again with this quota, or without one."""
        self.stop()
        self._quota_kilobytes = kilobytes
        self._write_configuration()
        self.start()

    def is_left(self) -> bool:
        """True if no client is connected: what one of them has begun is stored, or dropped."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        return not any(row[1].endswith(f":{self.port:04X}") and row[3] in _CONNECTED for row in rows)

    def messages(self, name: str) -> list[StoredMessage]:
        """Return the messages of a folder, by its name as the server spells it; those of a folder that is not there."""
        place = self._maildir / f".{name}"
        files = sorted([*place.glob("new/*"), *place.glob("cur/*")])
        return [
            StoredMessage(
                file.read_bytes(), file.name.partition(":2,")[2], datetime.fromtimestamp(file.stat().st_mtime, UTC)
            )
            for file in files
        ]

    def subscribed(self) -> list[str]:
        """Return the subscribed folders."""
        file = self._maildir / "subscriptions"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [line.replace("\t", ".") for line in lines if line and not line.startswith("V")]

    @property
    def _maildir(self) -> Path:
        return self._folder / "home" / "mail"

    def _prepare(self) -> None:
        users = "".join(f"{login}:{secret}::::::\n" for login, secret in self._passwords.items())
        (self._folder / "users").write_text(users, encoding="utf-8")
        self._maildir.mkdir(parents=True, exist_ok=True)
        for place in (self._maildir.parent, self._maildir):
            shutil.chown(place, "nobody", "nogroup")

    def _is_ready(self) -> bool:
        """True if it takes logins: it listens before, and closes the connection."""
        login, password = next(iter(self._passwords.items()))
        try:
            with imaplib.IMAP4(LOOPBACK, self._port, timeout=PATIENCE) as client:
                client.login(login, password)
        except (OSError, imaplib.IMAP4.error):
            return False
        return True

    def _configuration(self) -> str:
        mailboxes = "".join(
            f'  mailbox "{name}" {{\n    auto = create\n{f"    special_use = {use}" if use else ""}\n  }}\n'
            for name, use in self._folders.items()
        )
        return f"""
{listener_settings("imap", self._port)}
auth_mechanisms = plain login
auth_failure_delay = 0
first_valid_uid = 1
{maildir_settings(self._maildir)}
{login_settings(self._folder / "users", home=self._maildir.parent, user="nobody", group="nogroup")}
namespace inbox {{
  inbox = yes
  separator = .
  prefix = {self._prefix}
{mailboxes}}}
service anvil {{
  # no waiting time that grows with every refused attempt
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{"" if self._quota_kilobytes is None else _quota_settings(self._quota_kilobytes)}
"""


def _quota_settings(kilobytes: int) -> str:
    if is_dovecot_2_4():
        return f"""
mail_plugins {{
  quota = yes
}}
quota user {{
  storage_size = {kilobytes}K
  storage_grace = 0
}}
"""
    return f"""
mail_plugins = quota
plugin {{
  quota = maildir:user
  quota_rule = *:storage={kilobytes}K
  quota_grace = 0
}}
"""
