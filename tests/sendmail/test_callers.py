"""Known programs that call sendmail, in front of the real service and a real provider."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy import sendmail
from tests.journeys.people import AUTHORS, office_under
from tests.peers.bench import Bench
from tests.peers.packages import DOVECOT, MAILX, POSTFIX
from tests.peers.postfix import Delivery
from tests.peers.process import why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, MAILX, "php", "s-nail", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = AUTHORS[0]
TEXT = "Grüße aus dem Büro\n.\nEnde"


class Machine:
    """A machine whose programs call sendmail by a path."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        people = office_under(Rule.ADDRESS)
        self.provider = bench.start(PostfixProvider(people.mailboxes, Rule.ADDRESS))
        more = f'[senders.map]\n"@web1.firma.test" = "{ANNA}"\n"root" = "{ANNA}"\n'
        relay = bench.start(Senderproxy.in_front_of(self.provider, people.accounts, more_settings=more))
        configuration = folder / "sendmail.conf"
        configuration.write_text(
            f"server = 127.0.0.1:{relay.port}\ndomain = web1.firma.test\naliases = {folder}/aliases\n"
        )
        (folder / "aliases").write_text("root: it@kunde.test\n")
        self.path = folder / "sendmail"
        self.path.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {sendmail.__file__} -C {configuration} "$@"\n')
        self.path.chmod(0o755)
        self.folder = folder
        self._seen: set[str] = set()

    def run(self, *words: str | Path, text: str = "", environment: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            [str(word) for word in words], input=text.encode(), capture_output=True, check=False, timeout=60,
            cwd=self.folder, env={"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(self.folder), **(environment or {})},
        )  # fmt: skip
        assert done.returncode == 0, done

    def delivered(self) -> Delivery:
        """Wait for the one message that is new, on Anna's login."""
        self.provider.wait_until(lambda: len(self.provider.received()) > len(self._seen), "the message arrives")
        [new] = [each for each in self.provider.received() if each.queue_id not in self._seen]
        self._seen.add(new.queue_id)
        assert (new.login, new.reverse_path) == (ANNA, ANNA)
        return new


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with ExitStack() as things:
        yield Machine(Bench(things), tmp_path_factory.mktemp("machine"))


def test_cron(machine: Machine) -> None:
    """The call and the header of Debian's cron, for a job of root without MAILTO."""
    header = (
        "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@web1> backup\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nX-Cron-Env: <LOGNAME=root>\n\n"
    )
    machine.run(machine.path, "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root", text=header + TEXT)
    message = machine.delivered()
    assert message.recipients == ["it@kunde.test"]
    assert "Grüße aus dem Büro\r\n.\r\nEnde".encode() in message.content


def test_phps_mail_function(machine: Machine) -> None:
    code = f'exit(mail("carl@kunde.test", "Bestellung", "eins\\nzwei\\n", "From: {ANNA}\\r\\nBcc: dora@kunde.test") ? 0 : 1);'
    machine.run("php", "-d", f"sendmail_path={machine.path} -t -i", "-r", code)
    message = machine.delivered()
    assert sorted(message.recipients) == ["carl@kunde.test", "dora@kunde.test"]
    assert b"Bcc" not in message.content
    assert b"\r\n\r\neins\r\nzwei\r\n" in message.content


def test_phps_mail_function_reports_a_refusal(machine: Machine) -> None:
    code = 'exit(mail("carl@kunde.test", "x", "y", "From: fremd@firma.test", "-ffremd@firma.test") ? 0 : 9);'
    done = subprocess.run(
        ["php", "-d", f"sendmail_path={machine.path} -t -i", "-r", code], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 9
    assert b"fremd@firma.test" in done.stderr


def test_mailx_of_bsd(machine: Machine) -> None:
    (machine.folder / ".mailrc").write_text(f"set sendmail={machine.path}\n")
    machine.run(MAILX, "-s", "Bericht", "-b", "dora@kunde.test", "carl@kunde.test", text=TEXT)
    message = machine.delivered()
    assert sorted(message.recipients) == ["carl@kunde.test", "dora@kunde.test"]


def test_s_nail(machine: Machine) -> None:
    words = ["-S", f"mta={machine.path}", "-S", f"from={ANNA}", "-s", "Bericht", "carl@kunde.test"]
    machine.run("s-nail", *words, text=TEXT, environment={"LC_ALL": "C.UTF-8"})
    message = machine.delivered()
    assert message.recipients == ["carl@kunde.test"]


@pytest.mark.skipif(not Path("/usr/lib/git-core/git-send-email").exists(), reason="apt-get install git-email")
def test_git_send_email(machine: Machine) -> None:
    git = shutil.which("git") or "git"
    patch = machine.folder / "0001-x.patch"
    patch.write_text(f"From 1234 Mon Sep 17 00:00:00 2001\nFrom: {ANNA}\nDate: Mon, 30 Nov 2026 08:00:00 +0100\n"
                     "Subject: [PATCH] x\n\n---\n")  # fmt: skip
    words: list[str | Path] = [
        "--sendmail-cmd",
        machine.path,
        "--from",
        ANNA,
        "--to",
        "carl@kunde.test",
        "--suppress-cc=all",
        "--confirm=never",
    ]
    (machine.folder / ".gitconfig").write_text(f"[user]\n\tname = Anna\n\temail = {ANNA}\n")
    machine.run(git, "send-email", *words, patch)
    message = machine.delivered()
    assert message.recipients == ["carl@kunde.test"]
