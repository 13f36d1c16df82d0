"""A private Postfix: own program, configuration, queue, data, log and ports, beside any other on this machine.

Guarantees: it answers on its ports when entered; the whole of it (master and its children) is gone afterwards, and
/etc/postfix is never read. Mail that it delivers itself goes to one mailbox, one file for each recipient.
Not here: the office's and the provider's settings (office, provider).
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.peers.process import LOOPBACK, PATIENCE, Program, greeting, private_folder, reserved_ports, wait_until
from tests.peers.unpacked import GROUPS, USERS, Unpacked

MASTER: Final = "/usr/lib/postfix/sbin/master"
OWNED_BY_POSTFIX: Final = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace",
)  # fmt: skip

# Nothing is chrooted: the queue holds no copy of the libraries and certificates.
INNER_SERVICES: Final = """
pickup    unix  n - n 60  1 pickup
cleanup   unix  n - n -   0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n -   1 tlsmgr
rewrite   unix  - - n -   - trivial-rewrite
bounce    unix  - - n -   0 bounce
defer     unix  - - n -   0 bounce
trace     unix  - - n -   0 bounce
verify    unix  - - n -   1 verify
flush     unix  n - n -   0 flush
proxymap  unix  - - n -   - proxymap
proxywrite unix - - n -   1 proxymap
smtp      unix  - - n -   - smtp
relay     unix  - - n -   - smtp
showq     unix  n - n -   - showq
error     unix  - - n -   - error
retry     unix  - - n -   - error
discard   unix  - - n -   - discard
virtual   unix  - n n -   - virtual
lmtp      unix  - - n -   - lmtp
anvil     unix  - - n -   1 anvil
scache    unix  - - n -   1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Waiting:
    """A message in the queue, as `postqueue -j` tells it."""

    queue_id: str
    queue: str
    reverse_path: str
    recipients: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass
class Delivery:
    """A message as it arrived: once for each recipient in `recipients`, which is in no certain order."""

    queue_id: str
    login: str | None
    reverse_path: str
    content: bytes
    recipients: list[str] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return the first field of this name, unfolded, or None."""
        head = self.content.split(b"\r\n\r\n", 1)[0].decode("utf-8", "replace")
        found = re.search(rf"^{re.escape(name)}:[ \t]*(.*(?:\r\n[ \t].*)*)", head, re.MULTILINE | re.IGNORECASE)
        return re.sub(r"\r\n[ \t]+", " ", found[1]).strip() if found else None


class Postfix:
    """One private instance; the office and the provider say what is special about theirs."""

    def __init__(self, name: str, ports: int) -> None:
        self.name = name
        self.address = LOOPBACK  # of its listeners
        self._wanted_ports = ports
        self._things = contextlib.ExitStack()
        self._program: Program | None = None
        self.ports: list[int] = []
        self.folder = Path()
        self._unpacked: Unpacked | None = None
        self._read: dict[str, tuple[Delivery, str]] = {}

    def settings(self) -> Mapping[str, str]:
        """Return what main.cf says beyond what every instance says."""
        raise NotImplementedError

    def listeners(self) -> Iterable[tuple[int, Mapping[str, str]]]:
        """Return each SMTP port with the settings that hold only there."""
        raise NotImplementedError

    def more_services(self) -> str:
        """Return lines for master.cf beyond those of every instance."""
        return ""

    def prepare(self, things: contextlib.ExitStack) -> None:
        """Start and write what must be there before Postfix; the folder exists already."""

    def __enter__(self) -> Self:
        try:
            self.folder = self._things.enter_context(private_folder(self.name))
            self.ports = self._things.enter_context(reserved_ports(self._wanted_ports))
            self._lay_out()
            self.prepare(self._things)
            self._write_configuration()
            self.start()
        except BaseException:
            self._things.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._things:
            self.stop()

    def start(self) -> None:
        """Start it, and wait until each port greets."""
        command = self._installed.command(MASTER, "-c", self._config, "-d")
        self._program = program = Program(self.name, command, self.folder / "master.out")
        try:
            for port, options in self.listeners():
                wrapped = options.get("smtpd_tls_wrappermode") == "yes"
                if not wrapped:  # behind TLS the greeting is a matter for the tests of the provider
                    program.wait_until(partial(greeting, port, self.address), f"{self.name} greets on port {port}")
        except BaseException:
            print(self.log())
            program.kill()
            raise

    def stop(self) -> None:
        """Stop it; what is queued stays queued, and the ports stay ours."""
        if self._program is not None:
            self._program.end()
            self._program = None

    def reload(self) -> None:
        """Write the configuration anew and have it read, as `postfix reload` does."""
        self._write_configuration()
        if self._program is not None:
            self._program.signal(signal.SIGHUP)

    def log(self) -> str:
        """Return what Postfix has logged."""
        files = (self.folder / "master.out", self.folder / "mail.log")
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    def log_lines(self, pattern: str) -> list[str]:
        """Return the lines of the log in which the pattern is found."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def lines_written(self, pattern: str, count: int = 1) -> list[str]:
        """Return these lines once there are so many: Postfix writes some after its client has its reply."""
        self.wait_until(lambda: len(self.log_lines(pattern)) >= count, f"{count} lines of the log with {pattern}")
        return self.log_lines(pattern)

    def wait_until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Wait for anything, and show this log if it does not come."""
        wait_until(condition, what, seconds, peer=self)

    def waiting(self) -> list[Waiting]:
        """Return what stands in the queue."""
        listed = [json.loads(line) for line in self._command("postqueue", "-j").splitlines()]
        return [
            Waiting(
                queue_id=entry["queue_id"],
                queue=entry["queue_name"],
                reverse_path="" if entry["sender"] == "MAILER-DAEMON" else entry["sender"],
                recipients=tuple(recipient["address"] for recipient in entry["recipients"]),
                reasons=tuple(recipient.get("delay_reason", "") for recipient in entry["recipients"]),
            )
            for entry in listed
        ]

    def flush(self) -> None:
        """Try at once to send everything that waits."""
        self._command("postqueue", "-f")

    def is_empty(self) -> bool:
        """True if the queue is empty. A message that moves from one part to another may be in neither list."""
        return not self.waiting() and not self._in_work() and not self.waiting()

    def wait_until_nothing_waits(self, seconds: float = PATIENCE) -> None:
        """Return when the queue is empty."""
        self.wait_until(self.is_empty, f"the queue of {self.name} is empty", seconds)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes do nothing meanwhile; its connections stay open."""
        assert self._program is not None
        os.killpg(self._program.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._program.pid, signal.SIGCONT)

    def mailbox(self) -> list[Delivery]:
        """Return what this instance has delivered to its own mailbox, oldest first.

        Of a message all recipients are here, or none, unless some are deferred. A recipient is here once for each time
        that a client sent it the message: virtual(8) delivers again what it had not yet marked when it was stopped.
        """
        begun = {delivery.queue_id for delivery in self._delivered()}
        in_work = self._in_work()
        return [delivery for delivery in self._delivered() if delivery.queue_id in begun - in_work]

    def finish_work(self) -> None:
        """Wait until everything that it has acknowledged until now is delivered or deferred."""
        if self._program is not None:
            taken = self._in_work()
            self.wait_until(lambda: not taken & self._in_work(), "what it has acknowledged is delivered")

    def _in_work(self) -> set[str]:
        """Return the queue ids of messages that are acknowledged, and neither delivered nor deferred."""
        found = set()
        for part in ("incoming", "active"):
            for file in (self.queue_folder / part).iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if file.stat().st_mode & stat.S_IXUSR:  # Postfix sets it when the last octet is on the disk
                        found.add(file.name)
        return found

    def _delivered(self) -> list[Delivery]:
        found: dict[str, Delivery] = {}
        files = [file for file in (self.folder / "mailbox" / "all" / "new").glob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):
            if file.name not in self._read:
                self._read[file.name] = _read_delivery(file.read_bytes())
            delivery, recipient = self._read[file.name]
            recipients = found.setdefault(delivery.queue_id, replace(delivery, recipients=[])).recipients
            if recipient not in recipients:
                recipients.append(recipient)
        return list(found.values())

    @property
    def _installed(self) -> Unpacked:
        assert self._unpacked is not None
        return self._unpacked

    @property
    def _config(self) -> Path:
        return self.folder / "etc"

    @property
    def queue_folder(self) -> Path:
        """Where the queue lies; sockets that Postfix looks for are named from here."""
        return self.folder / "queue"

    def _command(self, name: str, *arguments: str) -> str:
        command = self._installed.command(f"/usr/sbin/{name}", "-c", self._config, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def _lay_out(self) -> None:
        """Make the folders with the owners that Postfix insists on."""
        self._unpacked = Unpacked("postfix", self.folder)
        postfix, postdrop = USERS["postfix"], GROUPS["postdrop"]
        for part in ("etc", "queue", "queue/pid", "mailbox"):
            (self.folder / part).mkdir(mode=0o755)
        for part, mode in [*((part, 0o700) for part in OWNED_BY_POSTFIX), ("maildrop", 0o1730), ("public", 0o710)]:
            directory = self.queue_folder / part
            directory.mkdir()
            shutil.chown(directory, postfix, postdrop if part in {"maildrop", "public"} else None)
            directory.chmod(mode)
        (self.folder / "data").mkdir(mode=0o700)
        shutil.chown(self.folder / "data", postfix)
        shutil.chown(self.folder / "mailbox", "nobody", "nogroup")

    def _write_configuration(self) -> None:
        nobody = pwd.getpwnam("nobody")
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.queue_folder),
            "data_directory": str(self.folder / "data"),
            "meta_directory": str(self._config),  # not /etc/postfix, which names what a Postfix of this machine has
            "maillog_file": str(self.folder / "mail.log"),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": f"{self.name}.test",
            "inet_interfaces": ", ".join(dict.fromkeys((LOOPBACK, self.address))),
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "mydestination": "",
            "local_recipient_maps": "",
            "alias_maps": "",
            "alias_database": "",
            "notify_classes": "",
            "append_dot_mydomain": "no",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",
            "enable_long_queue_ids": "yes",  # never the same name twice
            "in_flow_delay": "0",  # Postfix would brake a client that is faster than its disk
            "virtual_mailbox_base": str(self.folder / "mailbox"),
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_error_sleep_time": "0",
            **self.settings(),
        }
        write_settled(self._config / "main.cf", "".join(f"{key} = {value}\n" for key, value in main.items()))
        listening = "".join(
            f"{self.address}:{port} inet n - n - - smtpd\n"
            + "".join(f"  -o {{ {key} = {value} }}\n" for key, value in options.items())
            for port, options in self.listeners()
        )
        (self._config / "master.cf").write_text(listening + INNER_SERVICES + self.more_services(), encoding="utf-8")


def write_settled(file: Path, text: str) -> None:
    """Write a file that looks some seconds old: Postfix waits with one that may still be under the editor's hands."""
    file.write_text(text, encoding="utf-8")
    then = file.stat().st_mtime - 10
    os.utime(file, (then, then))


def write_map(file: Path, entries: Mapping[str, Sequence[str] | str]) -> str:
    """Write a lookup table that needs no compiling, and return its name for main.cf."""
    lines = (f"{key} {value if isinstance(value, str) else ','.join(value)}\n" for key, value in entries.items())
    write_settled(file, "".join(lines))
    return f"texthash:{file}"


def _read_delivery(file: bytes) -> tuple[Delivery, str]:
    """Take off what Postfix's virtual(8) and smtpd(8) put on top; what remains is what the client sent."""
    reverse_path = re.search(rb"^Return-Path: <(.*)>\n", file)
    delivered_to = re.search(rb"^Delivered-To: (.*)\n", file, re.MULTILINE)
    received = re.search(rb"^Received: .*\n(?:[ \t].*\n)*", file, re.MULTILINE)
    assert reverse_path, file[:500]
    assert delivered_to, file[:500]
    assert received, file[:500]
    login = re.search(rb"\(Authenticated sender: ([^)]*)\)", received[0])
    queue_id = re.search(rb"\sid (\w+)", received[0])
    assert queue_id, received[0]
    delivery = Delivery(
        queue_id=queue_id[1].decode(),
        login=login[1].decode() if login else None,
        reverse_path=reverse_path[1].decode(),
        content=file[received.end() :].replace(b"\n", b"\r\n"),
    )
    return delivery, delivered_to[1].decode()
