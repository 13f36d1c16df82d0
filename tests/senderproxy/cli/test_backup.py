"""`senderproxy backup` and `senderproxy restore`, in folders of their own."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from senderproxy.accounts.sealed_file import SealedWriter
from senderproxy.backup import restore
from senderproxy.spool.sqlite.database import scripts
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from tests.senderproxy.cli.conftest import PASSWORDS, Ended, Office, service_status
from tests.senderproxy.cli.waiting import GONE, NOW, QUEUE, fill
from tests.senderproxy.spool.sqlite.open_spool import sql
from vault._format import Argon2idCost

PASSPHRASE = "geheim-satz der Sicherung"
STDIN = f"{PASSPHRASE}\n"
LOGINS = ("anna@firma.example", "bert@firma.example")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivation that takes no time; its real cost is in the header of each file."""
    monkeypatch.setattr("vault._seal.usual_cost", lambda: Argon2idCost(passes=1, kibibytes=8, lanes=1))


@pytest.fixture
def full(office: Office) -> Office:
    """An office with two accounts, mail in the queue, and something learned."""
    for login in LOGINS:
        words = ("account", "add", login, "--provider", "ionos", "--password-stdin", "--no-verify")
        assert office.type(*words, stdin=f"{PASSWORDS[login]}\n").code == 0
    fill(office.folder / "spool", *QUEUE, GONE)
    sql(office.folder / "spool", "INSERT INTO learned VALUES ('quota/anna', '{\"n\":1}', 1700000000000)")
    return office


@pytest.fixture
def backup(full: Office) -> Path:
    file = full.folder / "first.backup"
    ended = full.type("backup", str(file), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 0, ended.err
    return file


@pytest.fixture
def place(office: Office) -> Path:
    return office.folder / "drill"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def restored(office: Office, backup: Path, *words: str, stdin: str = STDIN) -> Ended:
    return office.bare("restore", str(backup), "--passphrase-stdin", *words, stdin=stdin)


def of(office: Office, place: Path, *words: str) -> Ended:
    """A command for the restored installation."""
    return office.bare("--config", str(place / "senderproxy.toml"), *words)


# ---- backup ----


def test_a_backup_is_private_sealed_and_listed(full: Office, backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    octets = backup.read_bytes()
    for secret in (b"anna", b"firma", b"Guten Tag", b"hostname"):
        assert secret not in octets
    ended = full.bare("backup", "--verify", str(backup), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 0, ended.err
    for text in ("3 messages", "1 record", "opens with the passphrase of the backup", str(full.config)):
        assert text in ended.out
    assert sorted(path.name for path in full.folder.glob(".*")) == []


def test_a_folder_gives_each_backup_a_name_of_its_own_and_no_file_is_overwritten(full: Office, backup: Path) -> None:
    folder = full.folder / "backups"
    folder.mkdir()
    (folder / f".senderproxy-backup-{'0' * 16}.tmp").write_bytes(b"left by a killed one")
    assert full.type("backup", str(folder), "--passphrase-stdin", stdin=STDIN).code == 0
    [made] = folder.iterdir()
    assert made.name.startswith("senderproxy-20")
    before = backup.read_bytes()
    ended = full.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 73
    assert "exists already" in ended.err
    assert backup.read_bytes() == before


@pytest.mark.parametrize("passphrase", ["", "geheim-kurz"])
def test_a_short_passphrase_is_refused(full: Office, passphrase: str) -> None:
    ended = full.type("backup", str(full.folder / "x"), "--passphrase-stdin", stdin=f"{passphrase}\n")
    assert ended.code == 64
    assert not (full.folder / "x").exists()


def test_the_passphrase_comes_from_a_private_file(full: Office) -> None:
    file = full.folder / "passphrase"
    file.write_text(STDIN)
    file.chmod(0o600)
    assert full.type("backup", str(full.folder / "x"), "--passphrase-file", str(file)).code == 0
    assert full.bare("backup", "--verify", str(full.folder / "x"), "--passphrase-file", str(file)).code == 0


def test_without_the_queue(full: Office, place: Path) -> None:
    backup = full.folder / "small.backup"
    assert full.type("backup", str(backup), "--passphrase-stdin", "--without-queue", stdin=STDIN).code == 0
    ended = restored(full, backup, "--folder", str(place))
    assert "not in the backup" in ended.out
    assert of(full, place, "queue").out == "The queue is empty.\n"
    assert sql(place / "spool", "SELECT key FROM learned") == [("quota/anna",)]


def test_a_spool_that_was_never_used(office: Office, place: Path) -> None:
    backup = office.folder / "early.backup"
    assert office.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN).code == 0
    assert restored(office, backup, "--folder", str(office.folder / "drill")).code == 0


def test_a_lost_database_is_no_empty_queue(full: Office) -> None:
    (full.folder / "spool" / "spool.db").unlink()
    ended = full.type("backup", str(full.folder / "x"), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 69
    assert "has lost its database" in ended.err
    words = ("backup", str(full.folder / "x"), "--passphrase-stdin", "--without-queue")
    assert full.type(*words, stdin=STDIN).code == 0


def test_a_message_whose_content_is_lost_is_named_and_restored_as_it_is(full: Office, place: Path) -> None:
    [(number,)] = sql(full.folder / "spool", "SELECT number FROM message WHERE id = 'Old234567890'")
    sql(full.folder / "spool", "UPDATE content SET body = NULL, file = 'gone', size = 7 WHERE message = ?", number)
    backup = full.folder / "x"
    ended = full.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 1
    assert "cannot be read on this machine either: Old234567890" in ended.out
    assert restored(full, backup, "--folder", str(place)).code == 0
    assert "Old234567890" in of(full, place, "queue", "list", "--held").out


def test_a_disk_without_space_is_refused_before_anything_is_written(full: Office) -> None:
    full.write_config("[spool]\nmin_free = 9000000000000000")
    ended = full.type("backup", str(full.folder / "x"), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 69
    assert "too little free space" in ended.err
    assert not (full.folder / "x").exists()
    assert not list(full.folder.glob(".*"))


# ---- restore ----


def test_a_restore_makes_the_same_installation_with_its_messages_held(full: Office, backup: Path, place: Path) -> None:
    ended = restored(full, backup, "--folder", str(place))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == f"Next: senderproxy --config {place}/senderproxy.toml run"
    assert "3 messages, held" in ended.out
    listed = of(full, place, "account", "list", "--json").json
    assert [entry["id"] for entry in listed] == list(LOGINS)
    assert of(full, place, "vault", "verify").code == 0
    held = of(full, place, "queue", "list", "--held", "--json").json
    assert {entry["id"] for entry in held} == {"Old234567890", "Mixed2345678", "Held23456789"}
    shown = of(full, place, "queue", "show", "Mixed2345678").out
    assert "restored from a backup of 20" in shown
    assert "may have been sent since" in shown
    assert "queued as 0Lx4711" in shown, "its history"
    assert "Subject: Angebot Mixed2345678" in shown
    [(why,)] = sql(
        place / "spool",
        "SELECT why FROM recipient, message ON number = message WHERE fate = 'held' AND message.id = 'Held23456789'",
    )
    assert str(why).startswith("ValueError, 3 times in a row; restored from a backup")
    assert sql(place / "spool", "SELECT key, value, updated_at FROM learned") == [
        ("quota/anna", '{"n":1}', 1700000000000)
    ]
    for path in (place / "accounts.vault", place / "vault.key", place / "spool" / "spool.db"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (place / "spool").stat().st_mode & 0o777 == 0o700
    assert not list(place.rglob("*restoring*"))
    assert of(full, place, "check", "--offline").code == 1  # the service does not run; nothing else is wrong
    assert (place / "vault.key").read_bytes() != (full.folder / "vault.key").read_bytes()


def test_released_messages_wait_again(full: Office, backup: Path, place: Path) -> None:
    assert restored(full, backup, "--folder", str(place)).code == 0
    assert of(full, place, "queue", "release", "--all", "--yes").code == 0
    states = sql(place / "spool", "SELECT waiting, held FROM message WHERE finished_at IS NULL")
    assert states == [(1, 0)] * 3


def test_an_existing_installation_is_kept_and_with_replace_moved_aside(full: Office, backup: Path, place: Path) -> None:
    assert restored(full, backup, "--folder", str(place)).code == 0
    before = contents(place)
    ended = restored(full, backup, "--folder", str(place))
    assert ended.code == 73
    assert "--replace" in ended.err
    assert contents(place) == before
    assert restored(full, backup, "--folder", str(place), "--replace").code == 0
    for name in ("senderproxy.toml", "accounts.vault"):
        assert (place / f"{name}.before-restore-1").read_bytes() == before[name]
    assert (place / "spool.before-restore-1" / "spool.db").exists()
    assert restored(full, backup, "--folder", str(place), "--replace").code == 0
    assert (place / "accounts.vault.before-restore-2").exists()
    assert len(of(full, place, "queue", "list").out.splitlines()) == 1 + len(QUEUE)


def test_on_its_own_machine_the_vault_keeps_all_its_unlocks(full: Office) -> None:
    """The key file opens the copy as it is, so nothing is sealed anew."""
    words = ("vault", "add-unlock", "passphrase", "--label", "safe", "--passphrase-stdin")
    assert full.type(*words, stdin="geheim-satz im Tresor\n").code == 0
    backup, vault = full.folder / "first.backup", (full.folder / "accounts.vault").read_bytes()
    assert full.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN).code == 0
    (full.folder / "accounts.vault").unlink()
    (full.folder / "senderproxy.toml").unlink()
    shutil.rmtree(full.folder / "spool")
    ended = restored(full, backup)
    assert ended.code == 0, ended.err
    assert (full.folder / "accounts.vault").read_bytes() == vault
    assert "It is new" not in ended.out
    assert full.type("queue", "list", "--held").code == 0


def test_a_restored_vault_is_as_old_as_its_backup_and_accepted(full: Office, backup: Path) -> None:
    assert full.type("account", "remove", LOGINS[1], "--yes").code == 0  # a later generation
    assert full.type("check", "--offline").code == 1
    assert restored(full, backup, "--replace").code == 0
    assert "vault_rolled_back" not in full.type("check", "--offline").out


def test_a_vault_that_cannot_be_opened_is_copied_as_it_is(full: Office, place: Path) -> None:
    words = ("vault", "add-unlock", "passphrase", "--label", "safe", "--passphrase-stdin")
    assert full.type(*words, stdin="geheim-satz im Tresor\n").code == 0
    (full.folder / "vault.key").unlink()
    backup = full.folder / "x"
    ended = full.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 0, ended.err
    assert "opens only with its own unlocks (key-file, passphrase safe)" in ended.out.replace(
        "key-file key-file", "key-file"
    )
    ended = restored(full, backup, "--folder", str(place))
    assert ended.code == 0, ended.err
    assert "it opens with: key-file, passphrase" in ended.out
    assert "--unlock passphrase vault add-unlock" in ended.out
    assert (place / "accounts.vault").read_bytes() == (full.folder / "accounts.vault").read_bytes()


def test_a_sealed_key_gives_way_to_a_key_file_where_it_is_not_there(
    full: Office, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credential is of one machine; on the other one the vault is made from the export."""
    credentials = full.folder / "credentials"
    credentials.mkdir(mode=0o700)
    (full.folder / "vault.key").rename(credentials / "vault-key")
    full.config.write_text(full.config.read_text().replace("key-file:vault.key", "credential:vault-key"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    backup = full.folder / "x"
    ended = full.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 0, ended.err
    assert "opens with the passphrase of the backup" in ended.out
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    ended = restored(full, backup, "--folder", str(place))
    assert ended.code == 0, ended.err
    assert "To seal it to this machine again: senderproxy vault seal" in ended.out
    assert f'unlock = "key-file:{place}/vault.key"' in (place / "senderproxy.toml").read_text()
    assert of(full, place, "vault", "verify").code == 0


def test_certificates_that_the_configuration_names_come_along(full: Office, place: Path) -> None:
    for name in ("listener.pem", "listener.key"):
        shutil.copy(full.simulator.ca_file, full.folder / name)
    (full.folder / "listener.key").chmod(0o600)
    full.write_config(
        listener='address = "127.0.0.1:0"\ntls = "starttls"\ncertificate = "listener.pem"\nkey = "listener.key"'
    )
    backup = full.folder / "x"
    assert full.type("backup", str(backup), "--passphrase-stdin", stdin=STDIN).code == 0
    for name in ("listener.pem", "listener.key"):
        (full.folder / name).unlink()
    assert restored(full, backup, "--folder", str(place)).code == 0
    assert (place / "listeners-0-key.pem").read_bytes() == full.simulator.ca_file.read_bytes()
    assert (place / "listeners-0-key.pem").stat().st_mode & 0o777 == 0o600
    assert of(full, place, "account", "list").code == 0, "the configuration is valid"


def test_a_running_service_is_not_restored_over(full: Office, backup: Path) -> None:
    before = contents(full.folder / "spool")
    with service_status(full):
        ended = restored(full, backup, "--replace")
    assert ended.code == 69
    assert "systemctl stop senderproxy" in ended.err
    assert contents(full.folder / "spool") == before


def test_a_spool_in_use_is_not_restored_over(full: Office, backup: Path) -> None:
    folder = SpoolFolder.open(full.folder / "spool")
    try:
        ended = restored(full, backup, "--replace")
    finally:
        folder.close()
    assert "is in use" in ended.err
    assert not list(full.folder.rglob("*before-restore*"))


def test_a_dry_run_changes_nothing(full: Office, backup: Path, place: Path) -> None:
    ended = restored(full, backup, "--folder", str(place), "--dry-run")
    assert ended.code == 0, ended.err
    assert "Nothing was changed." in ended.out
    assert not place.exists()


def too_new(octets: bytes) -> bytes:
    return octets.replace(b"vault-stream/v1", b"vault-stream/v2", 1)


@pytest.mark.parametrize(
    ("change", "stdin", "code", "text"),
    [
        (lambda octets: octets[:-1], STDIN, 65, "is damaged"),
        (lambda octets: octets[: len(octets) // 2], STDIN, 65, "is damaged"),
        (lambda octets: octets[:200], STDIN, 65, "is damaged"),
        (lambda octets: b"", STDIN, 65, "is damaged"),
        (lambda octets: b"PK\3\4" + octets, STDIN, 65, "not a sealed file"),
        (lambda octets: octets[:1000] + bytes([octets[1000] ^ 1]) + octets[1001:], STDIN, 65, "altered"),
        (lambda octets: octets + b"x", STDIN, 65, "is damaged"),
        (too_new, STDIN, 65, "is damaged"),
        (lambda octets: octets, "geheim-anderer satz\n", 77, "This passphrase does not open"),
    ],
)
def test_a_backup_that_cannot_be_used_changes_nothing(
    full: Office, backup: Path, place: Path, change: Callable[[bytes], bytes], stdin: str, code: int, text: str
) -> None:
    backup.write_bytes(change(backup.read_bytes()))
    ended = restored(full, backup, "--folder", str(place), stdin=stdin)
    assert (ended.code, text in ended.err) == (code, True), ended.err
    assert "To fix:" in ended.err
    assert not place.exists()


def test_the_backup_of_an_earlier_format_is_restored_and_converted(office: Office, place: Path) -> None:
    """The file was written by the last version whose spool had format 2."""
    backup = Path(__file__).with_name("format_2.backup")
    ended = restored(office, backup, "--folder", str(place))
    assert ended.code == 0, ended.err
    assert "3 messages, held" in ended.out
    assert sql(place / "spool", "PRAGMA user_version") == [(len(scripts()),)]
    assert not list((place / "spool").glob("*.format-*"))
    held = of(office, place, "queue", "list", "--held", "--json").json
    assert {entry["id"] for entry in held} == {"Old234567890", "Mixed2345678", "Held23456789"}
    assert "Subject: Angebot Mixed2345678" in of(office, place, "queue", "show", "Mixed2345678").out
    assert sql(place / "spool", "SELECT key FROM learned") == [("quota/anna",)]
    assert of(office, place, "queue", "release", "--all", "--yes").code == 0


def test_the_queue_of_a_later_format_is_refused(full: Office, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr("senderproxy.spool.sqlite.snapshot.Snapshot.version", 99)
        later.setattr("senderproxy.spool.sqlite.snapshot.scripts", lambda: [""] * 99)
        later.setattr("senderproxy.backup.inventory.scripts", lambda: [""] * 99)
        assert full.type("backup", str(full.folder / "x"), "--passphrase-stdin", stdin=STDIN).code == 0
    ended = restored(full, full.folder / "x", "--folder", str(place))
    assert ended.code == 65
    assert "format 99" in ended.err
    assert not place.exists()


def test_other_sealed_files_are_refused(full: Office, place: Path) -> None:
    for content in (b"", b"anything", b"\0\0\0\2M{}", b"\xff\xff\xff\xffM"):
        file = full.folder / "other"
        with file.open("wb") as out:
            sealed = SealedWriter(out, PASSPHRASE)
            sealed.write(content)
            sealed.finish()
        ended = restored(full, file, "--folder", str(place))
        assert ended.code == 65
        assert "cannot be used" in ended.err
    assert restored(full, full.folder / "missing").code == 66


# ---- setup --from ----


def test_setup_rebuilds_an_installation_and_ends_with_the_next_command(full: Office, backup: Path, place: Path) -> None:
    ended = full.bare("setup", "--from", str(backup), "--folder", str(place), "--passphrase-stdin", stdin=STDIN)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == f"Next: senderproxy --config {place}/senderproxy.toml run"
    assert len(of(full, place, "queue", "list", "--held").out.splitlines()) == 1 + len(QUEUE)
    again = full.bare("setup", "--from", str(backup), "--folder", str(place), "--passphrase-stdin", stdin=STDIN)
    assert again.code == 73


def test_setup_starts_the_unit_and_checks(
    full: Office, backup: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr("senderproxy.cli.rebuild.may_manage", lambda _config: True)
    monkeypatch.setattr("senderproxy.cli.rebuild.bring_up", lambda *, restart: started.append("senderproxy"))
    ended = full.bare("setup", "--from", str(backup), "--folder", str(place), "--passphrase-stdin", stdin=STDIN)
    assert started == ["senderproxy"]
    assert ended.code == 1, "nothing was started"
    assert "it is not running, so no mail passes" in ended.out
    assert "queue release --all" in ended.out.splitlines()[-1]


# ---- interruptions ----


CALLS = ("rename", "unlink", "link", "mkdir", "rmdir")  # a killed process loses no octets that it has written


def interrupted(monkeypatch: pytest.MonkeyPatch, number: int, run: Callable[[], object]) -> bool:
    """Run until the call of that number, in another process that dies there; True if there were fewer calls."""
    child = os.fork()
    if child == 0:
        count = 0

        def counting(call: Callable[..., object]) -> Callable[..., object]:
            def counted(*arguments: object, **more: object) -> object:
                nonlocal count
                count += 1
                if count == number:
                    os._exit(9)
                return call(*arguments, **more)

            return counted

        for name in CALLS:
            monkeypatch.setattr(os, name, counting(getattr(os, name)))
        try:
            run()
        except BaseException:
            os._exit(3)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), code
    return code == 0


@pytest.mark.slow
def test_an_interrupted_restore_is_completed_by_a_second_run(
    full: Office, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each change of the folder: the second run needs no option, and nothing is lost or deleted."""
    number, ended_at = 0, 0
    while not ended_at:
        number += 1
        place = full.folder / f"drill-{number}"
        request = restore.RestoreRequest(backup, PASSPHRASE, folder=place)
        if interrupted(monkeypatch, number, lambda request=request: restore.restore_backup(request, NOW)):  # type: ignore[misc]
            ended_at = number
        if (place / "senderproxy.toml").exists():
            ended = of(full, place, "queue", "list")
            assert len(ended.out.splitlines()) == 1 + len(QUEUE), (number, ended.err)
            assert of(full, place, "vault", "verify").code == 0
            continue
        ended = restored(full, backup, "--folder", str(place))
        assert ended.code == 0, (number, ended.err)
        assert len(of(full, place, "queue", "list", "--held").out.splitlines()) == 1 + len(QUEUE)
        assert of(full, place, "vault", "verify").code == 0
        assert not list(place.rglob("*restoring*"))
        shutil.rmtree(place)
    assert ended_at > 20


@pytest.mark.slow
def test_an_interrupted_replacement_keeps_the_installation_of_before(
    full: Office, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each change; after the second run the old installation is there under its other names, once."""
    first = full.folder / "model"
    assert restored(full, backup, "--folder", str(first)).code == 0
    assert of(full, first, "account", "remove", LOGINS[1], "--yes").code == 0
    old = contents(first)
    number, ended_at = 0, 0
    while not ended_at:
        number += 1
        place = full.folder / f"drill-{number}"
        shutil.copytree(first, place)
        for path in place.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        config = old["senderproxy.toml"].replace(b"/model/", b"/%s/" % place.name.encode()) + b"# the old one\n"
        (place / "senderproxy.toml").write_bytes(config)
        request = restore.RestoreRequest(backup, PASSPHRASE, folder=place, replace=True)
        if interrupted(monkeypatch, number, lambda request=request: restore.restore_backup(request, NOW)):  # type: ignore[misc]
            ended_at = number
        if not (place / "senderproxy.toml").exists() or (place / "senderproxy.toml").read_bytes() == config:
            more = ("--replace",) if (place / "senderproxy.toml").exists() else ()
            ended = restored(full, backup, "--folder", str(place), *more)
            assert ended.code == 0, (number, ended.err)
        assert [entry["id"] for entry in of(full, place, "account", "list", "--json").json] == list(LOGINS)
        [aside] = place.glob("accounts.vault.before-restore-*")
        assert aside.read_bytes() == old["accounts.vault"]
        [spool] = place.glob("spool.before-restore-*")
        assert (spool / "spool.id").read_bytes() == old["spool/spool.id"]
        [kept] = place.glob("senderproxy.toml.before-restore-*")
        assert kept.read_bytes() == config
        shutil.rmtree(place)
    assert ended_at > 20
