"""A fresh release on which nothing is configured, beside a name server and a provider that is IONOS to it.

Not here: a machine that options have set up (installed), the terminal (tests.senderproxy.cli.pseudo_terminal).
"""

import os
import shutil
from pathlib import Path
from typing import Final

from tests.package.installed import APT, PATIENCE
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.machine import BootedMachine
from tests.peers.name_server import NameServer
from tests.peers.process import LOOPBACK, wait_until
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.releases import RELEASES, release
from tests.senderproxy.cli.pseudo_terminal import on_terminal

DOMAIN: Final = "firma.test"
ANNA, BERT = f"anna@{DOMAIN}", f"bert@{DOMAIN}"
SERVER: Final = "smtp.ionos.de"  # of the preset ionos-de, on port 465
RECORDS: Final = {
    (DOMAIN, "MX"): "10 mx00.ionos.de.",
    (DOMAIN, "TXT"): '"v=spf1 include:_spf-eu.ionos.com ~all"',
    ("_spf-eu.ionos.com", "TXT"): '"v=spf1 ip4:212.227.126.128/25 ~all"',
    ("mx00.ionos.de", "A"): "212.227.15.41",
}
# An address of loopback for this process: name server and provider have their usual ports there.
OWN: Final = f"127.{os.getpid() >> 16 & 63 | 64}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 255}"


class FreshMachine:
    """A fresh release beside a name server and a provider that is IONOS to it. Nothing is configured."""

    def __init__(self, bench: Bench) -> None:
        bench.start(NameServer(OWN, RECORDS))
        self.provider = bench.start(PostfixProvider([Mailbox(ANNA, f"geheim-{ANNA}")], Rule.DOMAIN, host_name=SERVER))
        self.port = bench.port()
        self.booted = machine = bench.start(BootedMachine(release(RELEASES[-1])))
        machine.write("/etc/hosts", f"127.0.0.1 localhost\n{OWN} {SERVER}\n")
        machine.write("/etc/resolv.conf", f"nameserver {OWN}\n")
        machine.write("/usr/local/share/ca-certificates/test.crt", self.provider.authority.ca_file.read_text())
        machine.run("update-ca-certificates", seconds=PATIENCE)
        machine.write("/etc/systemd/system/ionos.socket", f"[Socket]\nListenStream={OWN}:465\n")
        proxy = f"/lib/systemd/systemd-socket-proxyd {LOOPBACK}:{self.provider.tls_port}"
        machine.write("/etc/systemd/system/ionos.service", f"[Service]\nExecStart={proxy}\n")
        machine.run("systemctl", "start", "ionos.socket")

    def install(self, package: Path, *options: str, exit_code: int = 0) -> str:
        """Give the file to apt; returns its output, errors too."""
        there = f"/root/{package.name}"
        shutil.copyfile(package, self.booted.root / there.lstrip("/"))
        return self.booted.run(
            "sh", "-c", f"{' '.join([*APT, *options, there])} 2>&1", exit_code=exit_code, seconds=300
        )

    def answer_the_dialogue(self) -> str:
        """`sudo senderproxy setup` with a wrong password first, and the provider of the MX records; returns the screen."""
        command = self.booted.command("env", "TERM=xterm", "LC_ALL=C.UTF-8", "senderproxy", "setup")
        with on_terminal(command) as terminal:
            for question, answer in (
                ("Mailboxes: ", ANNA),
                (f"The MX records of {DOMAIN} say: ionos-de.\nProvider [ionos-de]: ", ""),
                (f"Password of {ANNA}: ", "geheim-falsch"),
                ("Choice [p]: ", "p"),
                (f"Password of {ANNA}: ", f"geheim-{ANNA}"),
                (f"Send all mail of {DOMAIN} with it? [Y/n] ", ""),
                ("IP addresses: ", "192.168.1.20"),
                ("Address to listen on [", f"{LOOPBACK}:{self.port}"),
                (f"Test message to [{ANNA}]: ", ""),
                ("Alerts to [none]: ", ""),
            ):
                terminal.read_until(question, PATIENCE)
                terminal.type(answer)
            code = terminal.end(PATIENCE)
            assert code == 0, terminal.screen
        return terminal.screen

    def sends(self) -> None:
        """A message of another author of the domain goes through, by the one mailbox."""
        before = len(self.provider.received())
        hand_in(self.port, letters_from([BERT], 1))
        wait_until(lambda: len(self.provider.received()) > before, "the message arrives", PATIENCE, peer=self.booted)
        assert self.provider.received()[-1].login == ANNA
