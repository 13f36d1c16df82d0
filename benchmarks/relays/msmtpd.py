"""msmtpd: a small daemon that runs msmtp for each message; msmtp selects the account by the reverse-path."""

import subprocess
from pathlib import Path

from benchmarks.packages import MSMTPD
from benchmarks.relays.program import OneProgram


class Msmtpd(OneProgram):
    """Pass-through: the client waits until msmtp has ended."""

    name: str = "msmtpd"

    @staticmethod
    def version() -> str | None:
        """Ask it."""
        if not MSMTPD.exists():
            return None
        done = subprocess.run([MSMTPD, "--version"], capture_output=True, text=True, check=False)
        return done.stdout.splitlines()[0] if done.stdout else None

    def command(self) -> list[str | Path]:
        """Write an account for each login, and return how it is started."""
        accounts = self.folder / "msmtprc"
        accounts.touch(mode=0o600)
        accounts.write_text(
            f"defaults\nhost localhost\nport {self.job.tls_port}\ntls on\ntls_starttls off\n"
            f"tls_trust_file {self.job.ca_file}\nauth plain\nset_from_header off\nset_date_header off\n"
            "undisclosed_recipients off\n"
            + "".join(
                f"\naccount a{number}\nfrom {login}\nuser {login}\npassword {self.job.password}\n"
                for number, login in enumerate(self.job.logins)
            ),
            encoding="utf-8",
        )
        msmtp = f"/usr/bin/msmtp -C {accounts} -f %F --"
        return [MSMTPD, f"--port={self.port}", "--interface=127.0.0.1", f"--command={msmtp}"]
