"""Dovecot's IMAP server for access tokens: a second kind of server that asks the OAuth server about each one.

Guarantees: it listens on loopback when entered, without TLS; a login is accepted if the token is active and of this user.
Not here: the OAuth server (oauth_server), logins over SMTP (provider).
"""

import imaplib
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from senderproxy.delivery.login_mechanisms import LoginSecret, begin
from senderproxy.routing.provider import Security, Smarthost
from tests.peers.dovecot import INSTALLED, login_settings, maildir_settings, token_settings, version_settings
from tests.peers.process import LOOPBACK, PATIENCE, Program, listens
from tests.peers.unpacked import Unpacked

_NONCE: Final = "of-no-use-for-tokens"


class DovecotImap:
    """A server on a port, in a folder of its own."""

    name = "imap"

    def __init__(self, folder: Path, port: int, introspection_url: str) -> None:
        self._folder = folder / self.name
        self._port = port
        self._introspection_url = introspection_url
        self._program: Program | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._folder.chmod(0o755)
        (self._folder / "users").touch()
        maildir = self._folder / "mail"
        maildir.mkdir()
        shutil.chown(maildir, "nobody", "nogroup")
        config = self._folder / "dovecot.conf"
        config.write_text(self._configuration(maildir), encoding="utf-8")
        command = Unpacked("dovecot", self._folder).command(INSTALLED, "-F", "-c", config)
        self._program = program = Program(self.name, command, self._folder / "dovecot.out")
        try:
            program.wait_until(lambda: listens(self._port), "the IMAP server listens")
        except BaseException:
            program.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._program is not None:
            self._program.kill()

    def log(self) -> str:
        """Return what Dovecot has logged."""
        file = self._folder / "dovecot.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def takes(self, mechanism: str, login: str, token: str) -> bool:
        """Tell whether a login is accepted, and opens the mailbox."""
        server = Smarthost(LOOPBACK, self._port, Security.NONE)
        secret = LoginSecret(login.encode("ascii"), token.encode("ascii"), server, _NONCE)
        dialogue = begin(mechanism, secret)
        answers = [dialogue.initial, *map(dialogue.answer, [b"refused"])]
        with imaplib.IMAP4(LOOPBACK, self._port, timeout=PATIENCE) as client:
            assert f"AUTH={mechanism}" in client.capabilities
            try:
                client.authenticate(mechanism, lambda _challenge: answers.pop(0) or b"")
            except imaplib.IMAP4.error:
                return False
            assert client.select("INBOX", readonly=True)[0] == "OK"
            return True

    def _configuration(self, maildir: Path) -> str:
        return f"""
{version_settings()}
protocols = imap
listen = {LOOPBACK}
base_dir = {self._folder}/run
state_dir = {self._folder}/state
log_path = {self._folder}/dovecot.log
ssl = no
auth_mechanisms = xoauth2 oauthbearer
auth_verbose = yes
auth_failure_delay = 0
first_valid_uid = 1
{maildir_settings(maildir)}
{token_settings(self._folder, self._introspection_url)}
{login_settings(self._folder / "users", home=self._folder, user="nobody", group="nogroup")}
service imap-login {{
  inet_listener imap {{
    port = {self._port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
