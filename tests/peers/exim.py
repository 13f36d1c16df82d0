"""Exim as the office's internal server: a smarthost router, a spool of its own, one connection for a queue run.

Guarantees: mail for the office's own domains (bounces) lands in its mailbox; everything else goes to the relay port.
Nothing is installed: the unpacked program runs with this folder's configuration, and libnss-wrapper shows it the user
that its package would have made.
"""

import contextlib
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.peers.packages import EXIM
from tests.peers.process import LOOPBACK, Program, greeting, private_folder, reserved_ports
from tests.peers.unpacked import without

USER: Final = "Debian-exim"
_SECONDS: Final = 240.0  # for a command: a run of the queue starts two processes for each message
WRAPPED: Final = ("LD_PRELOAD", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP")


class Exim:
    """The internal server of an office with these domains; it queues, and sends when told to (`send_queue`)."""

    name = "exim"

    def __init__(self, relay_port: int, domains: Sequence[str]) -> None:
        self.relay_port = relay_port
        self._domains = tuple(domains)
        self._things = contextlib.ExitStack()
        self.folder = Path()
        self.port = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as things:
            self.folder = things.enter_context(private_folder(self.name))
            [self.port] = things.enter_context(reserved_ports(1))
            self._lay_out()
            program = Program(
                self.name,
                [self._exim, "-C", self._config, "-bdf"],
                self.folder / "exim.out",
                environment=self._environment(),
            )
            things.callback(program.end)
            program.wait_until(lambda: greeting(self.port), "Exim greets")
            self._things = things.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()

    def send_queue(self) -> None:
        """Send everything that waits, sorted by destination first, so that messages share a connection (-qq)."""
        self._command("-qqff")

    def queue(self) -> list[str]:
        """Return the lines of `exim -bp`; empty when nothing waits."""
        return [line for line in self._command("-bp").splitlines() if line.strip()]

    def log(self) -> str:
        """Return what Exim has printed and logged."""
        files = [self.folder / "exim.out", *sorted((self.folder / "log").glob("*"))]
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    def log_lines(self, pattern: str) -> list[str]:
        """Return the lines of the log in which the pattern is found."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def returned(self) -> list[bytes]:
        """Return the bounces that the office's people found in their mailbox."""
        folder = self.folder / "mailbox" / "new"
        mails = [file.read_bytes() for file in sorted(folder.glob("*"))]
        return [mail for mail in mails if mail.startswith(b"Return-path: <>")]

    @property
    def _exim(self) -> Path:
        return self.folder / "exim4"

    @property
    def _config(self) -> Path:
        return self.folder / "exim.conf"

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.folder / "group"),
        }

    def _command(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._exim, "-C", self._config, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, f"exim {arguments}: {done.stderr}\n{self.log()}"
        return done.stdout

    def _lay_out(self) -> None:
        # a copy: Exim executes itself again as its own user, who may not be let into the folder of the project
        shutil.copy(EXIM, self._exim)
        nobody = pwd.getpwnam("nobody")  # under the name that Exim was built to look for
        users = without({USER}, Path("/etc/passwd"))
        line = f"{USER}:x:{nobody.pw_uid}:{nobody.pw_gid}:Exim of a test:/nonexistent:/usr/sbin/nologin\n"
        (self.folder / "passwd").write_text(users + line, encoding="utf-8")
        groups = without({USER}, Path("/etc/group"))
        (self.folder / "group").write_text(f"{groups}{USER}:x:{nobody.pw_gid}:\n", encoding="utf-8")
        for part in ("spool", "log", "mailbox"):
            (self.folder / part).mkdir()
            shutil.chown(self.folder / part, nobody.pw_uid, nobody.pw_gid)
        self._config.write_text(self.configuration(), encoding="utf-8")
        self._config.chmod(0o644)

    def configuration(self) -> str:
        """Return the whole of exim.conf; the folder and the port are there already."""
        return f"""
primary_hostname = exim.test
exim_path = {self._exim}
domainlist our_domains = {" : ".join(self._domains)}
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/log/%slog
pid_file_path = {self.folder}/exim.pid
log_selector = +smtp_connection +smtp_confirmation +received_recipients
keep_environment = {" : ".join(WRAPPED)}
local_interfaces = {LOOPBACK}
daemon_smtp_ports = {self.port}
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = accept
acl_smtp_data = accept
queue_only = true
remote_max_parallel = 1
check_spool_space = 0
split_spool_directory = false

begin routers

to_our_people:
  driver = accept
  domains = +our_domains
  transport = mailbox

smarthost:
  driver = manualroute
  transport = relay
  route_list = * {LOOPBACK}
  self = send

begin transports

mailbox:
  driver = appendfile
  maildir_format
  directory = {self.folder}/mailbox
  user = {USER}
  return_path_add
  envelope_to_add

relay:
  driver = smtp
  port = {self.relay_port}
  hosts_try_fastopen =

begin retry

* * F,2h,1m
"""
