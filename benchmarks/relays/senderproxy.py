"""senderproxy in pass-through and in queue mode, as an office runs it."""

from typing import ClassVar

import senderproxy
from benchmarks.relays.port import Job
from tests.peers import senderproxy as peer


class PassThrough(peer.Senderproxy):
    """Pass-through: each message is offered upstream while the client waits."""

    name: str = "senderproxy"
    answers_first: ClassVar[bool] = False
    mode: ClassVar[str] = "pass-through"
    spool: ClassVar[str] = ""

    def __init__(self, job: Job) -> None:
        super().__init__(
            [peer.VaultAccount(login, job.password) for login in job.logins],
            f"""
host = "localhost"
port = {job.tls_port}
security = "tls"
ca_file = "{job.ca_file}"
sender_rule = "address"
connections = {job.per_account}
""",
            listener_settings=f"""
mode = "{self.mode}"
max_connections = {job.clients + 50}
max_connections_per_client = {job.clients + 50}
max_message_size = {job.message_size}
""",
            more_settings=self.spool,
        )

    @staticmethod
    def version() -> str | None:
        """Our own."""
        return f"senderproxy {senderproxy.__version__}"

    def kill_and_start(self) -> None:
        """Restart it, as after a power failure."""
        self.kill()
        self.start()

    def push(self) -> None:
        """Lift the pauses of accounts, which outlast a restart; the waiting messages are due by themselves."""
        self.resume_accounts()


class Queue(PassThrough):
    """Queue mode: each message is stored, answered, then delivered."""

    name: str = "senderproxy-queue"
    answers_first: ClassVar[bool] = True
    mode: ClassVar[str] = "queue"

    # short waits after a refusal: after a restart every message is due
    spool: ClassVar[str] = """
[spool]
first_retry_seconds = 1
longest_retry_seconds = 1
"""
