"""A mailbox at the provider that gets all mail of a domain, and the programs that fetch it for the office's server.

Guarantees: Dovecot's POP3 server shows exactly the maildir given; what a fetcher has handed on is gone from it.
Not here: the provider that fills the maildir (provider).
"""

import shutil
import subprocess
from enum import Enum
from pathlib import Path

from tests.peers.dovecot import Dovecot, listener_settings, login_settings, maildir_settings
from tests.peers.process import LOOPBACK, PATIENCE

_LOGIN, _PASSWORD = "post@firma.test", "geheim-post"


class Fetcher(Enum):
    """A program that fetches mail by POP3 and submits it to a mail server."""

    FETCHMAIL = "fetchmail"
    GETMAIL = "getmail"


class CatchAll(Dovecot):
    """Dovecot's POP3 server for one maildir."""

    name = "catch-all"

    def __init__(self, folder: Path, maildir: Path, port: int) -> None:
        super().__init__(folder, port)
        self._maildir = maildir

    def waiting(self) -> list[Path]:
        """Return the messages in the mailbox; the POP3 server moves those that it has seen."""
        return [*self._maildir.glob("new/*"), *self._maildir.glob("cur/*")]

    def fetch(self, fetcher: Fetcher, recipient: str, port: int) -> None:
        """Fetch all mail and submit it for this recipient to the server on that port, as `cron` would do it."""
        home = self._folder / f"home-{fetcher.value}"
        home.mkdir(exist_ok=True)
        match fetcher:
            case Fetcher.FETCHMAIL:
                file, text = home / ".fetchmailrc", self._fetchmailrc(recipient, port)
                command = [
                    "fetchmail",
                    "--fetchmailrc",
                    str(file),
                    "--nodetach",
                    "--nosyslog",
                    "--pidfile",
                    f"{home}/pid",
                ]
            case Fetcher.GETMAIL:
                file, text = home / "getmailrc", self._getmailrc(recipient, port)
                command = ["getmail", "--getmaildir", str(home), "--rcfile", "getmailrc"]
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        for path in (home, *home.iterdir()):
            shutil.chown(path, "nobody", "nogroup")
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            user="nobody",
            group="nogroup",
            extra_groups=[],
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}{self.log()}"

    def _fetchmailrc(self, recipient: str, port: int) -> str:
        return f"""
poll {LOOPBACK} service {self._port} protocol pop3 timeout 20
  user "{_LOGIN}" there with password "{_PASSWORD}" is "{recipient}" here
  smtphost "{LOOPBACK}/{port}" sslproto '' norewrite fetchall
"""

    def _getmailrc(self, recipient: str, port: int) -> str:
        submit = ("--silent", "2", "--server", LOOPBACK, "--port", str(port), "--from", "%(sender)", "--to", recipient)
        return f"""
[retriever]
type = SimplePOP3Retriever
server = {LOOPBACK}
port = {self._port}
username = {_LOGIN}
password = {_PASSWORD}
[destination]
type = MDA_external
path = /usr/bin/swaks
arguments = {(*submit, "--data", "-")!r}
[options]
delete = true
"""

    def _prepare(self) -> None:
        (self._folder / "users").write_text(f"{_LOGIN}:{_PASSWORD}::::::\n", encoding="utf-8")

    def _configuration(self) -> str:
        return f"""
{listener_settings("pop3", self._port)}
auth_mechanisms = plain
{maildir_settings(self._maildir)}
first_valid_uid = 1
{login_settings(self._folder / "users", home=self._folder, user="nobody", group="nogroup")}
"""
