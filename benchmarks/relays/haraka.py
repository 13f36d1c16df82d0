"""Haraka: its plugin smtp_forward, with an account selected by the reverse-path.

It connects, does STARTTLS (it has no implicit TLS towards a backend) and logs in for each message. Earlier versions had
a pool of connections, in which one login's connection could carry another's mail; it was removed.
"""

import json
import os
import re
from pathlib import Path

from benchmarks.packages import HARAKA
from benchmarks.relays.program import OneProgram

# every client is accepted: access control is not measured
TAKE_ALL = """
exports.hook_connect = (next, connection) => { connection.relaying = true; next() }
exports.hook_rcpt = (next) => next(OK)
"""


class Haraka(OneProgram):
    """Pass-through: the client hears what the smarthost said."""

    name: str = "haraka"

    @staticmethod
    def version() -> str | None:
        """Read its package."""
        if not HARAKA.exists():
            return None
        package = json.loads(HARAKA.parents[1].joinpath("package.json").read_text(encoding="utf-8"))
        return f"Haraka {package['version']}"

    def environment(self) -> dict[str, str]:
        """Node trusts our authority."""
        return {**os.environ, "NODE_EXTRA_CA_CERTS": str(self.job.ca_file)}

    def command(self) -> list[str | Path]:
        """Write its folder, and return how it is started."""
        (self.folder / "plugins").mkdir(exist_ok=True)
        (self.folder / "config").mkdir(exist_ok=True)
        (self.folder / "plugins" / "take_all.js").write_text(TAKE_ALL, encoding="utf-8")
        backend = f"host=localhost\nport={self.job.starttls_port}\nenable_tls=true\nenable_outbound=true\n"
        accounts = "".join(
            f"\n[{login}]\n{backend}auth_type=plain\nauth_user={login}\nauth_pass={self.job.password}\n"
            for login in self.job.logins
        )
        files = {
            "plugins": "take_all\nqueue/smtp_forward\n",
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\ndaemonize=false\nspool_dir={self.folder}/spool\n",
            "smtp_forward.ini": f"{backend}domain_selector=mail_from\n\n[tls]\nrejectUnauthorized=true\n{accounts}",
            "log.ini": "[main]\nlevel=notice\n",
            "me": "relay.example",
            "connection.ini": self._connection_settings(),
        }
        for name, text in files.items():
            (self.folder / "config" / name).write_text(text, encoding="utf-8")
        return ["node", HARAKA, "-c", self.folder]

    def _connection_settings(self) -> str:
        """Return its default settings, which a file of ours would replace, with a larger message size."""
        text = HARAKA.parents[1].joinpath("config", "connection.ini").read_text(encoding="utf-8")
        return re.sub(r"^bytes=.*$", f"bytes={self.job.message_size}", text, flags=re.MULTILINE)
