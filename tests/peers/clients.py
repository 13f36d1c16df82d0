"""swaks and msmtp: programs that hand in one message and tell by their exit code and words what they were answered.

Guarantees: no password is ever an argument of a program; what is shown of a dialogue hides it.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers.process import LOOPBACK

SWAKS: Final = "/usr/bin/swaks"
MSMTP: Final = "/usr/bin/msmtp"
DEADLINE: Final = 120.0


@dataclass(frozen=True)
class Sent:
    """How it went: 0 is success, anything else the program's own code; the transcript is what it printed."""

    exit_code: int
    transcript: str


@dataclass(frozen=True)
class ClientLogin:
    """What a client logs in with at a relay that asks for it."""

    user: str
    password: str


def swaks(
    folder: Path,
    port: int,
    *,
    reverse_path: str,
    recipients: Sequence[str],
    content: bytes,
    options: Sequence[str] = (),
    login: ClientLogin | None = None,
) -> Sent:
    """Hand in one message with swaks; `options` go to it as they are (`--tls`, `--pipeline`)."""
    message = folder / "swaks.eml"
    message.write_bytes(content.removesuffix(b"\r\n"))  # swaks ends the last line itself
    configuration = folder / "swaksrc"
    secret = [f"auth-user {login.user}", f"auth-password {login.password}", "auth-hide-password ***"] if login else []
    _write_private(configuration, [*secret, ""])
    return _run(
        folder,
        [
            SWAKS,
            "--config", str(configuration),
            "-4",
            "--server", "localhost",  # the name in the certificates; newer ones compare it
            "--port", str(port),
            "--helo", "scanner.office.test",
            "--timeout", "100s",  # for each reply; without the option 30 s
            "--from", reverse_path or "<>",
            "--to", ",".join(recipients),
            "--data", f"@{message}",
            *options,
        ],
    )  # fmt: skip


def msmtp(
    folder: Path,
    port: int,
    *,
    reverse_path: str,
    recipients: Sequence[str],
    content: bytes,
    ca_file: Path | None = None,
    login: ClientLogin | None = None,
) -> Sent:
    """Hand in one message with msmtp, over STARTTLS when there is an authority to trust."""
    configuration = folder / "msmtprc"
    _write_private(
        configuration,
        [
            "account office",
            f"host {'localhost' if ca_file else LOOPBACK}",
            f"port {port}",
            "domain desk.office.test",
            "set_from_header off",
            "set_date_header off",
            "undisclosed_recipients off",
            *(["tls on", "tls_starttls on", f"tls_trust_file {ca_file}"] if ca_file else ["tls off"]),
            *(["auth plain", f"user {login.user}", f"password {login.password}"] if login else ["auth off"]),
            "",
        ],
    )
    return _run(
        folder, [MSMTP, "-C", str(configuration), "-a", "office", f"--from={reverse_path}", "--", *recipients], content
    )


def _write_private(file: Path, lines: Sequence[str]) -> None:
    file.touch(mode=0o600)
    file.write_text("\n".join(lines), encoding="utf-8")


def _run(folder: Path, command: Sequence[str], standard_input: bytes = b"") -> Sent:
    assert shutil.which(command[0]), f"{command[0]} is not here"
    done = subprocess.run(
        command,
        input=standard_input,
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE,
        check=False,
    )
    return Sent(done.returncode, done.stdout.decode("utf-8", "replace"))
