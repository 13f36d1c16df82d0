"""The service on a machine that systemd has booted, installed as the handbook says: started, watched, stopped by systemd."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.journeys.people import AUTHORS
from tests.journeys.queueing import copies, devices
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.load import CLIENTS, connections
from tests.peers.machine import SOCKET, SOURCES, UNIT, Machine
from tests.peers.mail_client import MailClient
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here("/lib/systemd/systemd", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA, BERT = AUTHORS[0], AUTHORS[4]
# A fault is found, and mended, sooner than in an office; all else is the unit as it is shipped.
IN_A_HURRY = "[Service]\nRestartSec=100ms\n"
WATCHED = "WatchdogSec=15\n"  # a busy machine may leave the service without a processor for some seconds


class Office:
    """The booted machine, its provider, and the two doors of its service."""

    def __init__(self, bench: Bench) -> None:
        self.provider = bench.start(PostfixProvider([Mailbox(who, f"geheim-{who}") for who in AUTHORS], Rule.ADDRESS))
        self.machine = bench.start(Machine())
        self.door, self.queue = bench.port(), bench.port()
        authority = "/etc/senderproxy/provider.pem"
        self.machine.write(authority, self.provider.authority.ca_file.read_text())
        self.machine.run(
            *f"senderproxy setup --yes --provider hoster --host localhost --port {self.provider.tls_port}".split(),
            *f"--security tls --ca-file {authority} --mailbox {ANNA} --listen {LOOPBACK}:{self.door}".split(),
            "--no-start",
            "--password-stdin",
            stdin=f"geheim-{ANNA}\n",
        )
        self.configuration = "/etc/senderproxy/senderproxy.toml"
        door, spool = devices(self.queue).split("[spool]\n")
        self.configure(self.configured.replace("[spool]\n", f"[spool]\n{spool}") + door)

    @property
    def configured(self) -> str:
        return (self.machine.root / self.configuration.lstrip("/")).read_text()

    def configure(self, text: str) -> None:
        (self.machine.root / self.configuration.lstrip("/")).write_text(text)

    def systemctl(self, verb: str, exit_code: int = 0) -> None:
        self.machine.run("systemctl", verb, UNIT, exit_code=exit_code)

    def wait_for_another(self, before: int) -> int:
        """Another process than this one is ready; its number."""
        machine = self.machine

        def other() -> int:
            pid = machine.pid()
            return pid if pid not in (0, before) and machine.shows("SubState") == "running" else 0

        return wait_until(other, "systemd has started it again", 120, peer=machine)

    def arrived(self, count: int) -> None:
        wait_until(lambda: len(self.provider.received()) >= count, f"{count} letters", 120, peer=self.machine)


@pytest.fixture
def office(bench: Bench) -> Iterator[Office]:
    office = Office(bench)
    yield office
    assert "geheim" not in office.machine.log()


def test_systemd_starts_watches_reloads_and_stops_it(office: Office) -> None:
    machine, letters = office.machine, letters_from([ANNA], 6)
    office.systemctl("start")  # comes back when the service says that it is ready
    listening = f"listening on {LOOPBACK}:{office.door}, {LOOPBACK}:{office.queue}, accounts: 1"
    assert machine.shows("StatusText").startswith(listening)  # behind it: that a busy machine is slow
    hand_in(office.door, letters[:1])
    office.arrived(1)

    # what root does at the command line counts at once, and the files stay the service's
    machine.run(*f"senderproxy account add {BERT} --provider hoster --password-stdin".split(), stdin=f"geheim-{BERT}\n")
    hand_in(office.door, [*letters_from([BERT], 1)])
    office.arrived(2)
    assert "senderproxy senderproxy 600" in machine.run("stat", "-c", "%U %G %a", "/var/lib/senderproxy/accounts.vault")
    machine.run("senderproxy", "check")

    # a changed configuration is read, and a broken one refused while the old one goes on
    office.configure(office.configured.replace('mode = "queue"', 'mode = "pass-through"'))
    office.systemctl("reload")
    machine.wait_for_journal("configuration reloaded")
    pid = machine.pid()
    office.configure("[[listeners]\n")
    office.systemctl("reload", exit_code=1)
    machine.wait_for_journal("Refused, the previous configuration stays in force")
    hand_in(office.door, letters[1:2])
    office.arrived(3)
    assert machine.pid() == pid
    office.systemctl("stop")
    assert (machine.shows("Result"), machine.shows("ExecMainStatus")) == ("success", "0")

    # what a person must mend is not tried again and again
    office.systemctl("start", exit_code=1)
    assert (machine.shows("ExecMainStatus"), machine.shows("NRestarts")) == ("78", "0")


def test_after_a_kill_or_a_hang_it_is_there_again_with_all_that_waited(office: Office) -> None:
    machine, letters = office.machine, letters_from([ANNA], 9)
    machine.write(f"/etc/systemd/system/{UNIT}.d/hurry.conf", IN_A_HURRY + WATCHED)
    machine.run("systemctl", "daemon-reload")
    office.systemctl("start")
    office.provider.stop()
    hand_in(office.queue, letters[:3])
    first = machine.pid()
    machine.run("kill", "-KILL", str(first))
    second = office.wait_for_another(first)
    hand_in(office.queue, letters[3:6])
    machine.run("kill", "-STOP", str(second))  # it hangs: systemd hears nothing of it any more
    office.wait_for_another(second)
    machine.wait_for_journal("Watchdog timeout")
    hand_in(office.queue, letters[6:])
    office.provider.start()
    office.arrived(9)
    assert set(copies(office.provider.received()).values()) == {1}

    def status() -> str:
        return machine.run("senderproxy", "status", exit_code=1)

    wait_until(lambda: "The queue is empty." in status(), "the last reply is written down", 120, peer=machine)
    said = status()
    assert "The service ended without a stop 2 times within a day" in said
    office.systemctl("stop")


def test_a_restart_and_a_crash_refuse_no_connection(office: Office) -> None:
    machine = office.machine
    machine.write(f"/etc/systemd/system/{UNIT}.d/hurry.conf", IN_A_HURRY)
    machine.run("systemctl", "daemon-reload")
    office.systemctl("start")
    assert machine.shows("NFileDescriptorStore") == "2"
    with connections(office.door) as seen:
        first = machine.pid()
        machine.run("kill", "-KILL", str(first))
        second = office.wait_for_another(first)
        office.systemctl("restart")
        third = office.wait_for_another(second)
        greeted = seen.greeted + 100
        wait_until(lambda: seen.greeted > greeted, "the restarted service greets", 120, peer=machine)
    assert seen.refused == []
    assert seen.cut_off <= CLIENTS  # those that the killed process was about to greet
    assert machine.pid() == third

    # a listener that is no longer configured leaves nothing behind
    office.configure(office.configured.replace(f"{LOOPBACK}:{office.queue}", f"{LOOPBACK}:0"))
    office.systemctl("restart")
    assert machine.shows("NFileDescriptorStore") == "2"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, office.queue))
    office.systemctl("stop")
    assert machine.shows("NFileDescriptorStore") == "0"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, office.door))


def test_the_sandbox_is_in_force(office: Office) -> None:
    machine = office.machine
    office.systemctl("start")
    pid = machine.pid()
    status = dict(
        line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (
        "1",
        "2",
        0,
        0,
    )
    machine.run("systemd-analyze", "security", "--no-pager", "--threshold=11", UNIT)  # an exposure of 1.1 at most
    user = machine.run("id", "-u", "senderproxy").strip()
    assert status["Uid"].split() == [user] * 4
    for path in ("/etc/x", "/usr/x", "/opt/x", "/var/x"):  # even root could not, where the service is
        machine.run("nsenter", f"--target={pid}", "--mount", "touch", path, exit_code=1)
    for path in ("/home", "/root", "/tmp"):
        assert machine.run("ls", "-A", f"/proc/{pid}/root{path}") == ""
    mounts = [line.split() for line in machine.run("cat", f"/proc/{pid}/mountinfo").splitlines()]
    options = {words[4]: set(words[5].split(",")) for words in mounts}
    assert "ro" in options["/"]
    for path in ("/var/lib/senderproxy", "/run/senderproxy", "/tmp", "/var/tmp"):  # what it may write it cannot run
        assert {"rw", "noexec", "nosuid"} <= options[path]
    assert int(machine.run("cat", f"/proc/{pid}/limits").split("Max core file size")[1].split()[0]) == 0
    with MailClient(LOOPBACK, office.door) as client:
        assert client.ehlo()[0] == 250


def test_the_key_may_be_a_credential_of_this_machine(office: Office) -> None:
    """Line by line as docs/operating.md says."""
    machine = office.machine
    machine.run("mkdir", "-p", "/etc/credstore.encrypted")
    key, credential = "/etc/senderproxy/vault.key", "/etc/credstore.encrypted/vault-key"
    machine.run("systemd-creds", "encrypt", "--name=vault-key", key, credential)
    office.configure(office.configured.replace(f"key-file:{key}", "credential:vault-key"))
    machine.write(
        f"/etc/systemd/system/{UNIT}.d/override.conf",
        f"[Service]\nLoadCredentialEncrypted=vault-key:{credential}\n",
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("shred", "-u", key)
    office.systemctl("start")
    hand_in(office.door, letters_from([ANNA], 1))
    office.arrived(1)
    office.systemctl("stop")


def test_a_socket_unit_opens_a_low_port_and_is_never_dead(office: Office) -> None:
    machine = office.machine
    good = office.configured
    machine.run("install", "-m", "644", f"{SOURCES}/systemd/senderproxy.socket", "/etc/systemd/system/")
    with free_low_port() as port:
        machine.write(
            f"/etc/systemd/system/{SOCKET}.d/override.conf",
            f"[Socket]\nListenStream=\nListenStream={LOOPBACK}:{port}\n",
        )
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "enable", "--now", SOCKET)

        # no listener has this address: clients get 421, and the reason is shown
        assert greeting(port).startswith("421 4.3.5 ")
        assert "systemd has opened" in machine.shows("StatusText")
        # a client starts the service again after each stop; the cause is found again, and the socket lives on
        for _ in range(3):
            office.systemctl("stop")
            assert greeting(port).startswith("421 ")
        assert machine.run("systemctl", "is-active", SOCKET).strip() == "active"

        # a corrected configuration needs no command
        office.configure(good.replace(f"{LOOPBACK}:{office.door}", f"{LOOPBACK}:{port}"))
        wait_until(lambda: greeting(port).startswith("220 "), "the service greets", 60, peer=machine)
        hand_in(port, letters_from([ANNA], 1))
        office.arrived(1)
        assert machine.shows("NFileDescriptorStore") == "1"  # that of the other listener only

        # a refused one, after a restart
        office.configure("[[listeners\n")
        office.systemctl("reload", exit_code=1)
        assert greeting(port).startswith("220 ")
        office.systemctl("restart")
        assert greeting(port).startswith("421 ")
        machine.run("systemctl", "stop", SOCKET, UNIT)
        assert machine.shows("Result") == "success"


def greeting(port: int) -> str:
    with socket.create_connection((LOOPBACK, port), timeout=60) as client:
        return client.recv(512).decode()


@contextmanager
def free_low_port() -> Iterator[int]:
    """A port below 1024 that nobody has, held as long as we need it."""
    for number in range(600, 1024):
        with socket.socket() as holder, suppress(OSError):
            holder.bind((LOOPBACK, number))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            yield number
            return
    raise AssertionError("no port is free")


def test_the_page_starts_with_a_connection_and_ends_when_idle(bench: Bench, office: Office) -> None:
    machine, port = office.machine, bench.port()
    office.configure(office.configured + '[web]\nrole = "operate"\n')
    for unit in ("senderproxy-web.socket", "senderproxy-web.service"):
        machine.run("install", "-m", "644", f"{SOURCES}/systemd/{unit}", "/etc/systemd/system/")
    override = "/etc/systemd/system/senderproxy-web.{}.d/override.conf"
    machine.write(override.format("socket"), f"[Socket]\nListenStream=\nListenStream={LOOPBACK}:{port}\n")
    command = machine.run("systemctl", "show", "--value", "--property=ExecStart", UNIT)
    program = command.partition("path=")[2].partition(" ")[0]
    machine.write(override.format("service"), f"[Service]\nExecStart=\nExecStart={program} web --idle 5\n")
    machine.run("systemctl", "daemon-reload")
    office.systemctl("start")
    shown = machine.run("stat", "-c", "%U %G %a", "/run/senderproxy-web", "/run/senderproxy-web/read").split("\n")
    assert shown[:2] == ["senderproxy senderproxy-web 2750", "senderproxy senderproxy-web 660"]
    machine.run("systemctl", "start", "senderproxy-web.socket")

    assert _page(port, "/login").startswith("HTTP/1.1 200 ")
    token = machine.run("senderproxy", "web", "link").split()[0].rpartition("/")[2]
    began = _page(port, "/login/link", f"token={token}")
    cookie = began.partition("set-cookie: ")[2].partition(";")[0]
    overview = _page(port, "/", cookie=cookie)
    assert overview.startswith("HTTP/1.1 200 ")
    assert "Overview" in overview
    resumed = _page(port, f"/accounts/{ANNA}/resume", "x=y", cookie=cookie)
    assert "The account may log in again." in resumed, resumed

    def is_gone() -> bool:
        state = machine.run("systemctl", "show", "--value", "--property=ActiveState", "senderproxy-web.service")
        return state.strip() == "inactive"

    wait_until(is_gone, "the page's process has ended", 120, peer=machine)
    assert _page(port, "/", cookie=cookie).startswith("HTTP/1.1 200 ")  # started again, and the login still holds

    def log_of_the_page() -> str:
        return machine.run("journalctl", "--no-pager", "--output=cat", "--unit=senderproxy-web.service")

    wait_until(lambda: "the page can be opened" in log_of_the_page(), "its first line", peer=machine)
    log = log_of_the_page()
    assert token not in log
    assert "Traceback" not in log


def _page(port: int, path: str, form: str = "", cookie: str = "") -> str:
    """What the page answers."""
    lines = [f"{'POST' if form else 'GET'} {path} HTTP/1.1", f"Host: {LOOPBACK}:{port}", "Connection: close"]
    if form:
        kind = "Content-Type: application/x-www-form-urlencoded"
        lines += [f"Origin: http://{LOOPBACK}:{port}", kind, f"Content-Length: {len(form)}"]
    lines += [f"Cookie: {cookie}"] if cookie else []
    with socket.create_connection((LOOPBACK, port), timeout=60) as client, client.makefile("rb") as answer:
        client.sendall("\r\n".join([*lines, "", form]).encode())
        return answer.read().decode()
