"""Script that uses a vault with the keyring of its D-Bus session and prints the results: FOLDER unlocked|locked."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jeepney import MatchRule, message_bus
from jeepney.io.blocking import open_dbus_connection

from vault import Exists, Keyring, Missing, NoBackend, Vault


@contextmanager
def unlocked_keyring() -> Iterator[None]:
    """The daemon that a desktop login starts. It gets the login password on its standard input."""
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert daemon.stdin
        daemon.stdin.write(b"geheim-login")
        daemon.stdin.close()
        wait_for("org.freedesktop.secrets")
        yield
    finally:
        daemon.terminate()
        daemon.wait(60)


def wait_for(name: str) -> None:
    """Wait until the daemon owns its name. An earlier request would make D-Bus start a second, locked daemon."""
    rule = MatchRule(type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged")
    rule.add_arg_condition(0, name)
    with open_dbus_connection() as bus, bus.filter(rule) as changes:
        bus.send_and_get_reply(message_bus.AddMatch(rule))
        if not bus.send_and_get_reply(message_bus.NameHasOwner(name)).body[0]:
            bus.recv_until_filtered(changes, timeout=60)


def use_a_vault(folder: Path) -> None:
    key = Keyring.generate("office", service="vault-test")
    print("made", repr(key))
    path = folder / "office.vault"
    Vault.create(path, unlock=key)
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("anna", b"geheim-anna")
        box.save()
    with Vault.open(path, unlock=Keyring("office", service="vault-test")) as box:
        assert box.get("anna") == b"geheim-anna"
        print("opened", *box.unlocks())
    try:
        Vault.open(path, unlock=Keyring("other", service="vault-test"))
    except Missing as error:
        print("missing", error)
    try:
        Keyring.generate("office", service="vault-test")
    except Exists as error:
        print("exists", error.hint)


def main() -> None:
    folder, state = Path(sys.argv[1]), sys.argv[2]
    try:
        if state == "unlocked":
            with unlocked_keyring():
                use_a_vault(folder)
        else:
            use_a_vault(folder)
    except NoBackend as error:
        print("refused", error, "|", error.hint)


if __name__ == "__main__":
    main()
