"""OpenSMTPD: an action and a rule for each sender, each with its own login.

Its folders and users are compiled in. It therefore runs in a mount namespace in which they are ours; nothing on this
machine changes.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.packages import OPENSMTPD
from benchmarks.relays.program import OneProgram

USERS: Final = ("opensmtpd", "opensmtpq")
FIRST_UID: Final = 64_500


class OpenSmtpd(OneProgram):
    """A queueing relay that tries each message at once."""

    name: str = "opensmtpd"
    answers_first: ClassVar[bool] = True

    @staticmethod
    def version() -> str | None:
        """Ask it."""
        if not OPENSMTPD.exists() or os.geteuid() != 0:
            return None
        done = subprocess.run([OPENSMTPD / "usr/sbin/smtpd", "-h"], capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).partition("\n")[0].removeprefix("version: ") or None

    def command(self) -> list[str | Path]:
        """Write its configuration and its part of the file system, and return how it is started."""
        self._lay_out()
        (self.folder / "smtpd.conf").write_text(self._configuration(), encoding="utf-8")
        secrets = self.folder / "secrets"
        lines = (f"a{number} {login}:{self.job.password}\n" for number, login in enumerate(self.job.logins))
        secrets.write_text("".join(lines), encoding="utf-8")
        secrets.chmod(0o640)
        shutil.chown(secrets, 0, FIRST_UID)
        here = {
            "/etc/passwd": "passwd",
            "/etc/group": "group",
            "/etc/ssl/certs/ca-certificates.crt": "ca.pem",
            "/var/spool": "spool",
            "/var/lib": "lib",
            "/var/run": "run",
            "/usr/libexec": "libexec",
        }
        mounts = [f"mount --bind {shlex.quote(str(self.folder / ours))} {there}" for there, ours in here.items()]
        start = f"exec {shlex.quote(str(self.folder / 'smtpd'))} -d -f {shlex.quote(str(self.folder / 'smtpd.conf'))}"
        return ["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, start])]

    def _lay_out(self) -> None:
        if (self.folder / "spool").exists():
            return
        shutil.copy(OPENSMTPD / "usr/sbin/smtpd", self.folder / "smtpd")
        shutil.copytree(OPENSMTPD / "usr/libexec", self.folder / "libexec")
        shutil.copy(self.job.ca_file, self.folder / "ca.pem")
        for part in ("spool/smtpd", "lib/opensmtpd/empty", "run"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "spool/smtpd").chmod(0o711)
        users = Path("/etc/passwd").read_text(encoding="utf-8")
        groups = Path("/etc/group").read_text(encoding="utf-8")
        for number, user in enumerate(USERS, FIRST_UID):
            with contextlib.suppress(KeyError):
                pwd.getpwnam(user)
                continue
            users += f"{user}:x:{number}:{number}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"
            groups += f"{user}:x:{number}:\n"
        (self.folder / "passwd").write_text(users, encoding="utf-8")
        (self.folder / "group").write_text(groups, encoding="utf-8")

    def _limits(self) -> str:
        most = self.job.senders * self.job.per_account
        limits = {
            **dict.fromkeys(("host", "source", "connector", "domain"), most),
            "route": most, "relay": self.job.per_account,
        }  # fmt: skip
        limits_text = "".join(f" max-conn-per-{what} {limit}" for what, limit in limits.items())
        delays = ("host", "route", "source", "connector", "relay", "domain")
        return f"mta limit{limits_text}" + "".join(f" conn-delay-{what} 0" for what in delays) + " reconn-delay-route 0"

    def _configuration(self) -> str:
        rules = "".join(
            f'action "a{number}" relay host smtps://a{number}@localhost:{self.job.tls_port} tls auth <secrets>\n'
            f'match from any mail-from "{login}" for any action "a{number}"\n'
            for number, login in enumerate(self.job.logins)
        )
        return f"""
table secrets file:{self.folder}/secrets
smtp max-message-size "{self.job.message_size}"
smtp limit max-mails 1000000
queue ttl 2h
# undocumented, in its parser: by default ten connections to a host, with seconds between them
{self._limits()}
listen on 127.0.0.1 port {self.port} hostname relay.example
{rules}
"""
