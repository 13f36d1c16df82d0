"""Dovecot's IMAP server for access tokens: a second kind of server that asks the OAuth server about each one.

Guarantees: it listens on loopback when entered, without TLS; a login is accepted if the token is active and of this user.
Not here: the OAuth server (oauth_server), logins over SMTP (provider).
"""

import imaplib
import shutil
from pathlib import Path
from typing import Final

from senderproxy.delivery.login_mechanisms import LoginSecret, begin
from senderproxy.routing.provider import Security, Smarthost
from tests.peers.dovecot import Dovecot, listener_settings, login_settings, maildir_settings, token_settings
from tests.peers.process import LOOPBACK, PATIENCE

_NONCE: Final = "of-no-use-for-tokens"


class DovecotImap(Dovecot):
    """A server on a port, in a folder of its own."""

    name = "imap"

    def __init__(self, folder: Path, port: int, introspection_url: str) -> None:
        super().__init__(folder / self.name, port)
        self._introspection_url = introspection_url

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

    @property
    def _maildir(self) -> Path:
        return self._folder / "mail"

    def _prepare(self) -> None:
        (self._folder / "users").touch()
        self._maildir.mkdir()
        shutil.chown(self._maildir, "nobody", "nogroup")

    def _configuration(self) -> str:
        return f"""
{listener_settings("imap", self._port)}
auth_mechanisms = xoauth2 oauthbearer
auth_verbose = yes
auth_failure_delay = 0
first_valid_uid = 1
{maildir_settings(self._maildir)}
{token_settings(self._folder, self._introspection_url)}
{login_settings(self._folder / "users", home=self._folder, user="nobody", group="nogroup")}
"""
