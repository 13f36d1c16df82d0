"""Exim: an authenticator that looks up the login by the sender, and one message a connection.

`connection_max_messages = 1` is necessary: Exim hands a connection to the next message for the same host, regardless of
its sender, and would send one sender's mail on another's login.
"""

import gzip
import re
from typing import ClassVar

from benchmarks.relays.port import Job
from tests.peers.exim import WRAPPED, Exim
from tests.peers.packages import EXIM
from tests.peers.process import LOOPBACK


class SenderDependentExim(Exim):
    """A queueing relay that tries each message at once."""

    name: str = "exim"
    answers_first: ClassVar[bool] = True

    def __init__(self, job: Job) -> None:
        super().__init__(job.tls_port, [])
        self._job = job

    @staticmethod
    def version() -> str | None:
        """Read the package's change log: the program itself answers only where its user exists."""
        history = EXIM.parents[1] / "share" / "doc" / "exim4-daemon-light" / "changelog.Debian.gz"
        if not EXIM.exists():
            return None
        found = (
            re.search(r"\((\S+)\)", gzip.decompress(history.read_bytes())[:200].decode()) if history.exists() else None
        )
        return f"Exim {found[1] if found else 'of unknown version'}"

    def kill_and_start(self) -> None:
        """Not measured: how fast Exim drains is how many queue runners one starts."""
        raise NotImplementedError

    def push(self) -> None:
        """Run the queue, as `exim -qff` does."""
        self.send_queue()

    def configuration(self) -> str:
        """Return exim.conf."""
        logins = self.folder / "logins"
        logins.write_text("".join(f"{login}: {self._job.password}\n" for login in self._job.logins), encoding="utf-8")
        logins.chmod(0o644)
        return f"""
primary_hostname = exim.test
exim_path = {self.folder / "exim4"}
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/log/%slog
pid_file_path = {self.folder}/exim.pid
keep_environment = {" : ".join(WRAPPED)}
local_interfaces = {LOOPBACK}
daemon_smtp_ports = {self.port}
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = accept
acl_smtp_data = accept
message_size_limit = {self._job.message_size}
check_spool_space = 0
split_spool_directory = true
# accept every client, and try each message at once
smtp_accept_max = {self._job.clients + 20}
smtp_accept_max_per_host = 0
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1024
smtp_enforce_sync = false
tls_advertise_hosts =

begin routers

smarthost:
  driver = manualroute
  transport = relay
  route_list = * localhost byname
  self = send

begin transports

relay:
  driver = smtp
  protocol = smtps
  port = {self._job.tls_port}
  hosts_require_auth = *
  tls_verify_certificates = {self._job.ca_file}
  tls_verify_hosts = *
  connection_max_messages = 1
  hosts_try_fastopen =
  # one transaction for each message
  max_rcpt = 1000

begin retry

* * F,2h,1m

begin authenticators

plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^$sender_address^${{lookup{{$sender_address}}lsearch{{{logins}}}}}

begin rewrite
"""
