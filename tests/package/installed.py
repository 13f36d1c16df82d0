"""The Debian package on a fresh release, and its provider.

Not here: the machine (peers.machine), the releases (peers.releases).
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from tests.journeys.people import AUTHORS
from tests.journeys.queueing import copies, devices
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.load import Load
from tests.peers.machine import UNIT, BootedMachine
from tests.peers.process import LOOPBACK, wait_until
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.releases import release

ANNA: Final = AUTHORS[0]
CONFIGURATION: Final = Path("/etc/senderproxy/senderproxy.toml")
STATE: Final = Path("/var/lib/senderproxy")
VAULT: Final = STATE / "accounts.vault"
PATIENCE: Final = 120.0  # seconds; compiling the modules takes a slow machine half a minute
APT: Final = ("apt-get", "install", "--yes", "--no-install-recommends")


class Installed:
    """A fresh release with the package on it."""

    def __init__(self, bench: Bench, name: str, package: Path, other: "Installed | None" = None) -> None:
        """`other`: a machine whose provider and ports this one uses."""
        everybody = [Mailbox(who, f"geheim-{who}") for who in AUTHORS]
        self.provider: PostfixProvider = (
            other.provider if other else bench.start(PostfixProvider(everybody, Rule.ADDRESS))
        )
        self.port: int = other.port if other else bench.port()
        self.queue: int = other.queue if other else bench.port()
        self.machine = bench.start(BootedMachine(release(name)))
        self.machine.write("/etc/hosts", "127.0.0.1 localhost\n")  # an installer writes it, debootstrap does not
        self.first_words = self.install(package)

    def install(self, package: Path) -> str:
        """Give the file to apt, and return its output."""
        there = f"/root/{package.name}"
        shutil.copyfile(package, self.machine.root / there.lstrip("/"))
        return self.machine.run(*APT, there, seconds=300)

    def set_up(self) -> None:
        """Answer the wizard's questions by options, add a listener that queues, and start the service."""
        authority = "/etc/senderproxy/provider.pem"
        self.machine.write(authority, self.provider.authority.ca_file.read_text())
        self.machine.run(
            *f"senderproxy setup --yes --no-start --provider hoster --host localhost --port {self.provider.tls_port}".split(),
            *f"--security tls --ca-file {authority} --mailbox {ANNA} --listen {LOOPBACK}:{self.port}".split(),
            "--password-stdin",
            stdin=f"geheim-{ANNA}\n",
            seconds=PATIENCE,
        )
        listener, spool = devices(self.queue).split("[spool]\n")
        self.configure(self.configured.replace("[spool]\n", f"[spool]\n{spool}") + listener)
        self.machine.run("systemctl", "enable", UNIT)
        self.machine.run("systemctl", "restart", UNIT, seconds=PATIENCE)  # setup may have started it already

    @property
    def configured(self) -> str:
        """The configuration."""
        return self.path(CONFIGURATION).read_text()

    def configure(self, text: str) -> None:
        """Write the configuration."""
        self.path(CONFIGURATION).write_text(text)

    def sends(self) -> None:
        """A message goes through, as the mailbox of its author."""
        before = len(self.provider.received())
        hand_in(self.port, letters_from([ANNA], 1))
        wait_until(lambda: len(self.provider.received()) > before, "the message arrives", PATIENCE, peer=self.machine)

    def sends_by_sendmail(self, program: str) -> None:
        """A message of a local program goes through: the configuration is readable for all."""
        before = len(self.provider.received())
        words = ["runuser", "-u", "nobody", "--", program, "-i", "-f", ANNA, "carl@kunde.test"]
        self.machine.run(*words, stdin=f"From: {ANNA}\nSubject: cron\n\nA job\n")
        wait_until(lambda: len(self.provider.received()) > before, "the message arrives", PATIENCE, peer=self.machine)

    def all_arrive(self, load: Load) -> None:
        """Each message that got 250 arrives, once."""

        def arrived() -> dict[str, int]:
            return {message: count for (message, _to), count in copies(self.provider.received()).items()}

        # A delivery by Postfix costs many times as much as a place in the queue, and there are thousands.
        wait_until(lambda: load.acknowledged <= arrived().keys(), "all messages", 6 * PATIENCE, peer=self.machine)
        assert {count for message, count in arrived().items() if message in load.acknowledged} == {1}

    def status(self) -> dict[str, Any]:
        """The service's state."""
        return dict(json.loads(self.machine.run("sh", "-c", "senderproxy status --json || true")))

    def another_process(self, before: int) -> bool:
        """True if systemd has started the service again, and it is ready."""
        return self.machine.pid() not in (0, before) and self.machine.shows("SubState") == "running"

    def path(self, path: Path) -> Path:
        """A file of the machine, as seen from here."""
        return self.machine.root / path.relative_to("/")

    def bytecode(self) -> list[Path]:
        """Return the folders of compiled modules."""
        return list(self.path(Path("/usr/lib/senderproxy")).rglob("__pycache__"))
