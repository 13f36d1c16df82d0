"""The container image: its files, and the service in it, run in namespaces as its user with volumes and a mounted key."""

import json
import os
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from deploy.container.__main__ import USER
from tests.journeys.people import AUTHORS
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, PATIENCE, Program, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here("debootstrap", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(reason is not None, reason=str(reason)),
]

SCRIPT = Path(__file__).with_name("container.sh")
ANNA = AUTHORS[0]


@pytest.fixture(scope="module")
def settings(image: Path) -> dict[str, Any]:
    """The image's config, found by way of the OCI layout."""
    with tarfile.open(image) as archive:
        index = _read(archive, "index.json")
        manifest = _read(archive, _blob(index["manifests"][0]["digest"]))
        config: dict[str, Any] = _read(archive, _blob(manifest["config"]["digest"]))
        return config


@pytest.fixture(scope="module")
def root(image: Path) -> Iterator[Path]:
    """The files of the image, unpacked as a runtime does."""
    with tempfile.TemporaryDirectory(prefix="senderproxy-container-") as folder:
        with tarfile.open(image) as archive:
            for name in _read(archive, "manifest.json")[0]["Layers"]:
                content = archive.extractfile(name)
                assert content is not None
                words = ["tar", "--extract", "--gzip", "--numeric-owner", "--same-permissions", "--directory", folder]
                subprocess.run(words, input=content.read(), check=True)
        Path(folder).chmod(0o755)
        (Path(folder) / "etc/hosts").write_text(f"{LOOPBACK} localhost\n")  # a runtime makes it
        yield Path(folder)


def _read(archive: tarfile.TarFile, name: str) -> Any:
    content = archive.extractfile(name)
    assert content is not None
    return json.load(content)


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.partition(':')[2]}"


class Container:
    """A container of the image with its volumes and secret."""

    def __init__(self, root: Path, settings: dict[str, Any], folder: Path) -> None:
        self._root = root
        self._settings = settings["config"]
        self._folder = folder
        self.name = "container"
        self._program: Program | None = None
        for name in ("vault", "spool", "etc", "secrets"):
            (folder / name).mkdir()
        for name in ("vault", "spool"):  # as a runtime makes a volume: with the owner and mode of the image's folder
            (folder / name).chmod(0o700)
            os.chown(folder / name, USER, USER)
        self.key = folder / "secrets" / "vault-key"
        self.key.write_bytes(os.urandom(32))
        self.key.chmod(0o444)  # as Docker mounts a secret

    def words(self, folder: str, *words: str) -> list[str]:
        """The command line that runs words in a new container."""
        place = self._folder / folder
        place.mkdir(exist_ok=True)
        mounts = [
            *(str(self._folder / "etc"), "/etc/senderproxy"),
            *(str(self._folder / "vault"), "/var/lib/senderproxy/vault"),
            *(str(self._folder / "spool"), "/var/lib/senderproxy/spool"),
            *(str(self._folder / "secrets"), "/mnt"),
        ]
        environment = [*self._settings["Env"], "SENDERPROXY_VAULT_KEY_FILE=/mnt/vault-key"]
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        inside = ["/usr/bin/env", "-i", *environment, *self._settings["Entrypoint"], *words]
        user = self._settings["User"].partition(":")[0]
        return ["unshare", *spaces, "sh", str(SCRIPT), str(place), str(self._root), user, *mounts, "--", *inside]

    def run(self, *words: str, stdin: str = "") -> str:
        """Run one command in a container of its own; what it prints."""
        done = subprocess.run(
            self.words("once", *words), input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Start the service, and wait until its healthcheck says that it answers."""
        command = self.words("service", *self._settings["Cmd"])
        self._program = Program(self.name, command, self._folder / "log")
        self._program.wait_until(lambda: self.healthcheck() == 0, "the healthcheck succeeds")

    def stop(self) -> None:
        """End the service as a runtime does: a signal to process 1 of the container."""
        assert self._program is not None
        os.kill(self.process, signal.SIGTERM)
        wait_until(lambda: self._program is not None and self._program.exit_code == 0, "it ends", peer=self)
        self._program = None

    @property
    def process(self) -> int:
        """Process 1 of the container, as it is numbered here."""
        assert self._program is not None
        pid = self._program.pid
        wait_until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text(), "process 1 starts", peer=self)
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def healthcheck(self) -> int:
        """The exit code of the image's healthcheck, run in the container of the service."""
        _kind, *words = self._settings["Healthcheck"]["Test"]
        return self.execute(*words).returncode

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run words in the container of the service, as its user."""
        into = ["nsenter", f"--target={self.process}", "--mount", "--pid", "--root", "--wd", f"--setuid={USER}"]
        inside = [*into, f"--setgid={USER}", "/usr/bin/env", "-i", *self._settings["Env"], *words]
        return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd="/")

    def write(self, name: str, text: str) -> None:
        """Write a file of the configuration's folder."""
        (self._folder / "etc" / name).write_text(text, encoding="utf-8")

    def log(self) -> str:
        """What the service has printed."""
        log = self._folder / "log"
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._program is not None:
            os.kill(self._program.pid, signal.SIGKILL)  # and with it, by unshare's --kill-child, the container
            self._program.end()


@pytest.fixture
def container(root: Path, settings: dict[str, Any], bench: Bench, tmp_path: Path) -> Container:
    """A container of the image that does not run yet."""
    return bench.start(Container(root, settings, tmp_path))


def configuration(provider_port: int, port: int) -> str:
    return f"""
        [identity]
        hostname = "relay.firma.example"
        [vault]
        path = "/var/lib/senderproxy/vault/accounts.vault"
        unlock = "key-file:/etc/senderproxy/vault.key"
        [spool]
        directory = "/var/lib/senderproxy/spool"
        [[listeners]]
        address = "{LOOPBACK}:{port}"
        mode = "queue"
        [providers.hoster]
        host = "localhost"
        port = {provider_port}
        security = "tls"
        ca_file = "/etc/senderproxy/provider.pem"
        """


def test_mail_passes_and_a_restart_keeps_the_queue(container: Container, bench: Bench) -> None:
    provider = bench.start(PostfixProvider([Mailbox(ANNA, f"geheim-{ANNA}")], Rule.ADDRESS))
    port = bench.port()
    container.write("provider.pem", provider.authority.ca_file.read_text())
    container.write("senderproxy.toml", configuration(bench.port(), port))  # nothing listens there
    container.run("vault", "create")
    add = ("account", "add", ANNA, "--provider", "hoster", "--password-stdin", "--no-verify")
    container.run(*add, stdin=f"geheim-{ANNA}\n")

    container.start()
    hand_in(port, letters_from([ANNA], 1))
    assert len(json.loads(container.execute("senderproxy", "queue", "list", "--json").stdout)) == 1
    container.stop()

    container.write("senderproxy.toml", configuration(provider.tls_port, port))
    container.start()
    wait_until(lambda: len(provider.received()) == 1, "the queued message arrives", peer=container)
    hand_in(port, letters_from([ANNA], 1))
    wait_until(lambda: len(provider.received()) == 2, "another one arrives", peer=container)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{container.process}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    container.stop()
    assert "geheim" not in container.log()


def test_the_image_runs_as_its_user_and_has_volumes_and_no_foreign_modules(
    settings: dict[str, Any], root: Path
) -> None:
    config = settings["config"]
    assert config["User"] == f"{USER}:{USER}"
    assert sorted(config["Volumes"]) == ["/var/lib/senderproxy/spool", "/var/lib/senderproxy/vault"]
    for folder in config["Volumes"]:
        status = (root / folder.lstrip("/")).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (USER, USER, 0o700)
    assert [path.name for path in (root / "usr/lib/senderproxy").glob("cp3*")] == ["cp311"]
    assert list((root / "usr/lib/senderproxy").rglob("__pycache__"))
