"""One service whose queue is in a PostgreSQL database: its tables, its login, its mail, the server's restart."""

import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from senderproxy.simulator.server import Simulator
from senderproxy.spool.postgresql.migrations import scripts
from tests.peers.mail_client import MailClient
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_database
from tests.peers.process import LOOPBACK, reserved_ports, wait_until, why_not_here
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.peers.simulated_provider import provider_settings, running_simulator

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = VaultAccount("anna@firma.example", "geheim-postfach")
PASSWORD = "geheim-datenbank"


@dataclass
class Setting:
    """What a test uses."""

    server: PostgresqlServer
    simulator: Simulator
    relay: Senderproxy
    port: int  # of the listener that queues

    def send(self, subject: str, text: str = "Hallo\r\n") -> None:
        message = (
            f"From: <{ANNA.login}>\r\nTo: carl@kunde.example\r\nSubject: {subject}\r\n"
            f"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <{subject}@firma.example>\r\n\r\n{text}"
        )
        with MailClient(LOOPBACK, self.port, timeout=120) as client:
            client.sendmail(ANNA.login, ["carl@kunde.example"], message)

    def subjects(self) -> list[bytes]:
        return [taken.content.partition(b"Subject: ")[2].partition(b"\r\n")[0] for taken in self.simulator.received]


class WithDatabase(Senderproxy):
    """A service whose tables are made before its first start."""

    def _import_accounts(self) -> None:
        super()._import_accounts()
        (self.folder / "database.password").touch(0o600)
        (self.folder / "database.password").write_text(f"{PASSWORD}\n", encoding="ascii")
        found = self.command("spool", "migrate", "--owner", OWNER, "--password-stdin", standard_input=f"{PASSWORD}\n")
        assert found == f"The tables have format {len(scripts())} now.\n"


@pytest.fixture
def setting() -> Iterator[Setting]:
    with running_database() as server, running_simulator(ANNA) as simulator, reserved_ports(1) as [port]:
        server.sql(f"ALTER ROLE {OWNER} PASSWORD '{PASSWORD}'; ALTER ROLE {SERVICE} PASSWORD '{PASSWORD}'")
        section = f"""{provider_settings(simulator)}
[[listeners]]
name = "devices"
address = "{LOOPBACK}:{port}"
mode = "queue"

[spool]
engine = "{server.network_engine}"
engine_password = "file:database.password"
first_retry_seconds = 1
longest_retry_seconds = 2
"""
        with WithDatabase([ANNA], section) as relay:
            relay._secrets.add(PASSWORD)
            yield Setting(server, simulator, relay, port)


def test_mail_waits_in_the_database_and_leaves_while_the_server_comes_and_goes(setting: Setting) -> None:
    relay = setting.relay
    setting.send("eins")
    setting.send("gross", "Zeile\r\n" * 100_000)
    wait_until(lambda: sorted(setting.subjects()) == [b"eins", b"gross"], "both are sent", peer=relay)
    relay.tracked("--from", ANNA.login, text="delivered")
    assert "durability of the spool" in relay.command("check", exit_code=1)

    setting.server.kill()
    with pytest.raises(smtplib.SMTPDataError) as refused:
        setting.send("ohne")
    assert refused.value.smtp_code == 451
    setting.server.start()

    def is_taken() -> bool:
        try:
            setting.send("danach")
        except smtplib.SMTPDataError:
            return False
        return True

    wait_until(is_taken, "mail is taken again", peer=relay)
    wait_until(lambda: b"danach" in setting.subjects(), "it is sent", peer=relay)
    assert not (relay.folder / "spool").exists()

    relay.stop()
    assert "delivered" in relay.command("track", "--from", ANNA.login)  # the command asks the database
    found = relay.command("spool", "reset", "--yes", exit_code=66)
    assert "works with files of this machine" in found
    relay.start()
