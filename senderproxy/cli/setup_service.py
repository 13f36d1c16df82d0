"""The systemd unit for `senderproxy setup`: enabled, started, or told of a change.

Guarantees: nothing is done without systemd, without root, without the unit or for another configuration than the
unit's. A running service is restarted only for a new configuration; else it reads what has changed.
Not here: the unit file (systemd/), the requests to the service (control).
"""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from senderproxy.cli.common import SYSTEM_CONFIG, user_config
from senderproxy.config.model import Config
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

UNIT: Final = "senderproxy.service"
_BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3)
_START_TIMEOUT: Final = 120.0  # seconds; TimeoutStartSec is 90 by default, and a restart stops the service first
_SHORT_TIMEOUT: Final = 20.0  # seconds for a question to systemd
_RELOAD_TIMEOUT: Final = 60.0  # seconds; a reload waits for the vault
_JOURNAL_LINES: Final = 5  # of the log of a failed start


def may_manage(config_path: Path) -> bool:
    """True if this command may start the unit, and the unit would use this configuration."""
    return (
        os.geteuid() == 0
        and config_path == SYSTEM_CONFIG
        and _BOOTED.is_dir()
        and _systemctl("cat", UNIT, seconds=_SHORT_TIMEOUT).returncode == 0
    )


def bring_up(*, restart: bool) -> bool:
    """Enable and start the unit; True if it did not run before, or was restarted because `restart` asked for it.

    Raises SenderproxyError if it does not start.
    """
    enabled = _systemctl("is-enabled", UNIT, seconds=_SHORT_TIMEOUT).returncode == 0
    active = _systemctl("is-active", UNIT, seconds=_SHORT_TIMEOUT).returncode == 0
    if not enabled or not active:
        _require(_systemctl("enable", "--now", UNIT, seconds=_START_TIMEOUT))
    if active and restart:
        _require(_systemctl("restart", UNIT, seconds=_START_TIMEOUT))
    return restart or not active


def reload_configuration(config: Config) -> None:
    """Let a running service read its configuration again. Raises SenderproxyError if it refuses it."""
    with suppress(NotRunning):
        ask(Path(config.service.control_socket), new_request(Verb.RELOAD), seconds=_RELOAD_TIMEOUT)


def is_running(config: Config) -> bool:
    """True if a service answers on the control socket."""
    try:
        ask(Path(config.service.control_socket), new_request(Verb.CONDITIONS), seconds=_SHORT_TIMEOUT)
    except NotRunning:
        return False
    except SenderproxyError:
        return True  # it does not answer this user
    return True


def start_command(config_path: Path) -> str:
    """The command to start the service by hand."""
    if config_path == SYSTEM_CONFIG and _BOOTED.is_dir():
        return f"sudo systemctl enable --now {UNIT.removesuffix('.service')}"
    return f"{command(config_path)} run"


def command(config_path: Path) -> str:
    """`senderproxy`, with the option that names the configuration if it is in an unusual place."""
    return "senderproxy" if config_path in (SYSTEM_CONFIG, user_config()) else f"senderproxy --config {config_path}"


def _systemctl(*words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603
            ["systemctl", *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except OSError as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", _("systemctl did not answer in time"))


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode == 0:
        return
    lines = [line for line in (*done.stderr.splitlines()[:1], *_journal()) if line.strip()]
    raise SenderproxyError(
        _("The files are complete, but the service did not start:") + "".join(f"\n  {line}" for line in lines),
        hint=_("Remove the cause, then run senderproxy setup again; it goes on from here."),
    )


def _journal() -> list[str]:
    words = ["journalctl", "--no-pager", "--output=cat", f"--lines={_JOURNAL_LINES}", f"--unit={UNIT}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SHORT_TIMEOUT)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()
