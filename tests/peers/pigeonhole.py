"""Pigeonhole: Dovecot's delivery agent with a Sieve script, which redirects and answers by SMTP.

Guarantees: what the script sends goes to the port given; a delivered message stays in a maildir of its own.
Not here: the mail server that would hand it the message.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.peers.dovecot import is_dovecot_2_4, maildir_settings, version_settings
from tests.peers.process import LOOPBACK, PATIENCE
from tests.peers.unpacked import Unpacked

DELIVERY_AGENT: Final = "/usr/lib/dovecot/dovecot-lda"


class Pigeonhole:
    """One mailbox with a Sieve script, in a folder of its own."""

    def __init__(self, folder: Path, address: str, script: str, port: int) -> None:
        self._address = address
        self._folder = folder / address
        self._config = self._folder / "dovecot.conf"
        self._folder.mkdir()
        self._unpacked = Unpacked("dovecot", self._folder)
        (self._folder / "script.sieve").write_text(script, encoding="utf-8")
        self._config.write_text(
            f"""
{version_settings()}
{maildir_settings(self._folder / "mail")}
base_dir = {self._folder}/run
state_dir = {self._folder}/state
log_path = {self._folder}/log
hostname = mail.firma.test
postmaster_address = postmaster@firma.test
submission_host = {LOOPBACK}:{port}
ssl = no
{_sieve_settings(self._folder / "script.sieve")}
""",
            encoding="utf-8",
        )
        for path in (self._folder, *self._folder.rglob("*")):
            shutil.chown(path, "nobody", "nogroup")

    def deliver(self, reverse_path: str, content: bytes) -> None:
        """Deliver a message as a mail server does: the reverse-path and the recipient are those of its envelope."""
        nobody = pwd.getpwnam("nobody")
        command = self._unpacked.command(
            "setpriv",
            f"--reuid={nobody.pw_uid}",
            f"--regid={nobody.pw_gid}",
            "--clear-groups",
            DELIVERY_AGENT,
            "-c",
            str(self._config),
            "-f",
            reverse_path,
            "-a",
            self._address,
            "-r",
            self._address,
        )
        environment = {"HOME": str(self._folder), "USER": "nobody", "PATH": os.environ["PATH"]}
        done = subprocess.run(
            command,
            input=content.replace(b"\r\n", b"\n"),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            env=environment,
        )
        assert done.returncode == 0, f"{done.stderr.decode()}{self.log()}"

    def log(self) -> str:
        """Return what it has logged."""
        file = self._folder / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def kept(self) -> list[Path]:
        """Return the messages in its mailbox."""
        return sorted((self._folder / "mail").glob("new/*"))


def _sieve_settings(script: Path) -> str:
    if is_dovecot_2_4():
        return f"""
protocol lda {{
  mail_plugins {{
    sieve = yes
  }}
}}
sieve_script personal {{
  driver = file
  path = {script}
}}
sieve_vacation_check_recipient = no
"""
    return f"""
protocol lda {{
  mail_plugins = sieve
}}
plugin {{
  sieve = file:{script}
  sieve_vacation_dont_check_recipient = yes
}}
"""
