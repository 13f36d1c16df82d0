"""A configuration file is loaded, or all its problems are listed at once."""

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.config.load import (
    ConfigError,
    Problem,
    find_control_socket,
    find_warnings,
    installation_paths,
    load_config,
    read_settings,
    system_hostname,
)
from senderproxy.config.model import Config

HASH = "scrypt$32768$8$1$c2FsdHNhbHRzYWx0c2FsdA$" + "A" * 43
UNLOCK = 'write unlock = "key-file:/etc/senderproxy/vault.key", "credential:NAME", "keyring:SERVICE" or "passphrase"'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "senderproxy.toml"


def problems(file: Path, text: str | bytes) -> list[str]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    lines = refused.value.message.splitlines()
    count = len(refused.value.problems)
    assert lines[0] == f"The configuration {file} has {count} problem{'s' if count > 1 else ''}:"
    assert lines[1:] == [f"  {problem}" for problem in refused.value.problems]
    return [str(problem) for problem in refused.value.problems]


def test_the_way_to_unlock_is_the_only_required_setting(file: Path) -> None:
    file.write_text('[vault]\nunlock = "passphrase"\n')
    config = load_config(file)
    assert config.identity.hostname == system_hostname()
    assert config.vault.path == "/var/lib/senderproxy/accounts.vault"


def test_an_empty_file_lacks_only_settings_without_default(file: Path) -> None:
    assert problems(file, "") == [f"vault.unlock: is missing. To fix: {UNLOCK}"]


def test_every_problem_is_listed_at_once_with_its_line_and_hint(file: Path) -> None:
    text = """\
hostname = "mail.firma.example"
[vault]
path = "x.vault"
unlok = "passphrase"
[[listeners]]
name = "office"
adress = "0.0.0.0:25"
allow = ["0.0.0.0/0", "192.168.1.5/24"]
tls = "startls"
max_connections = "many"
max_message_size = "150 megs"
[[listeners]]
name = "office"
address = "localhost:2525"
auth = "required"
tls = "implicit"
certificate = "missing.pem"
idle_seconds = "5"
[[clients]]
password = "geheim-not-hashed"
senders = ["anna"]
[[clients]]
networks = "10.0.0.0/8"
[providers.a]
host = "smtp.firma.example:25"
[providers.b]
preset = "gmxx"
sender_rule = "domian"
[providers.c]
port = 25
[providers.ionos-de]
ca_file = "nowhere.pem"
[routing]
author_order = ["From", "X"]
default_account = "a b"
[log]
level = "verbose"
[delivery]
final_dot = 3
connect_seconds = true
[service]
stop_seconds = -1
[servce]
"""
    folder = file.parent
    assert problems(file, text) == [
        "line 1, hostname: is not a setting. To fix: move it to [identity]",
        'line 4, vault.unlok: is not a setting. To fix: did you mean "unlock"?',
        'line 7, listeners[0].adress: is not a setting. To fix: did you mean "address"?',
        ('line 8, listeners[0].allow[1]: "192.168.1.5/24" is the address of a host with the size of a network.'
        ' To fix: write "192.168.1.0/24", or "192.168.1.5" for one host'),
        ('line 9, listeners[0].tls: "startls" is unknown. To fix: did you mean "starttls"?'
        ' Write "none", "starttls" or "implicit"'),
        ('line 10, listeners[0].max_connections: "many" is not an integer. To fix:'
        " write an integer from 1 to 1000000, without quotation marks"),
        'line 11, listeners[0].max_message_size: "150 megs" is not a size. To fix: write it like "150 MB", "1 MiB" or 150000000',
        'line 12, listeners[1].key: is missing, but tls = "implicit" needs it. To fix: write key = "/etc/senderproxy/key.pem"',
        'line 13, listeners[1].name: "office" is also used by listeners[0]. To fix: give each listener its own name',
        'line 14, listeners[1].address: "localhost" is not an IP address. To fix: write "127.0.0.1:2525"',
        f'line 17, listeners[1].certificate: the file "{folder}/missing.pem" does not exist. To fix: write the path of the PEM file',
        'line 18, listeners[1].idle_seconds: "5" is not a number. To fix: write seconds from 1 to 86400, without quotation marks',
        'line 19, clients[0]: has neither a user nor networks. To fix: write user = "..." or networks = ["..."], or default = true',
        ("line 20, clients[0].password: is not a password hash (never write the password itself here). To fix:"
        " write the output of: senderproxy client hash-password"),
        ('line 21, clients[0].senders[0]: anna has no @. To fix: write "anna@firma.example",'
        ' or "@firma.example" for the whole domain'),
        "line 23, clients[1].networks: is not a list. To fix: put the values in square brackets: networks = [...]",
        ('line 25, providers.a.host: "smtp.firma.example:25" has a port in it. To fix:'
        ' write host = "smtp.firma.example" and port = 25'),
        'line 27, providers.b.preset: "gmxx" is not a preset. To fix: did you mean "gmx"?',
        ('line 28, providers.b.sender_rule: "domian" is unknown. To fix: did you mean "domain"?'
        ' Write "any", "domain" or "address"'),
        ('line 29, providers.c.host: is missing, and preset "generic" has no server. To fix:'
        ' write host = "smtp.example.com", or another preset'),
        f'line 32, providers.ionos-de.ca_file: the file "{folder}/nowhere.pem" does not exist. To fix: write the path of the PEM file',
        ('line 34, routing.author_order[1]: "X" is unknown. To fix:'
        ' write "From", "reverse-path", "Sender" or "Resent-From"'),
        ('line 35, routing.default_account: "a b" is not an account id. To fix:'
        " write an id from: senderproxy account list"),
        'line 37, log.level: "verbose" is unknown. To fix: write "debug", "info", "warning" or "error"',
        'line 39, delivery.final_dot: is not a setting. To fix: did you mean "final_dot_seconds"?',
        ("line 40, delivery.connect_seconds: true is not a number. To fix:"
        " write seconds from 0.05 to 3600, without quotation marks"),
        "line 42, service.stop_seconds: -1 is too small. To fix: write 0 to 3600",
        'line 43, servce: is not a setting. To fix: did you mean "service"?',
    ]  # fmt: skip


VAULT = '[vault]\nunlock = "passphrase"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vault = 3\n", "line 1, vault: is not a section. To fix: write [vault] and its settings below it"),
        (VAULT + "[listeners]\n", "line 3, listeners: is a single section. To fix: write [[listeners]] with two brackets: there may be several"),
        ("clients = {}\n" + VAULT, "line 1, clients: is a single section. To fix: write [[clients]] with two brackets: there may be several"),
        ("listeners = 3\n" + VAULT, "line 1, listeners: is not a list. To fix: put the values in square brackets: listeners = [...]"),
        ("listeners = [1]\n" + VAULT, "line 1, listeners[0]: is not a section. To fix: write [[listeners]] and its settings below it"),
        ("providers = 1\n" + VAULT, "line 1, providers: is not a section. To fix: write [providers] and its settings below it"),
        (VAULT + '[providers]\n"web.de" = 1\n', 'line 4, providers."web.de": is not a section. To fix: write [providers."web.de"] and its settings below it'),
        (VAULT + '[providers."a b"]\nhost = "h"\n', 'line 3, providers.a b: "a b" is not a name. To fix: write letters, digits, ".", "_" and "-", at most 40'),
        ("identity = []\n" + VAULT, "line 1, identity: is not a section. To fix: write [identity] and its settings below it"),
        (VAULT + "[zzz]\n", "line 3, zzz: is not a setting. To fix: use one of identity, vault, listeners, clients, routing, routes, smarthosts, mx, senders, footers, providers, delivery, spool, alerts, service, metrics, web, watch, log"),
        (VAULT + "[log]\nhost = 3\n", "line 4, log.host: is not a setting. To fix: move it to [smarthosts.NAME] or [providers.NAME]"),
        (VAULT + "[log]\nbare_lf = 3\n", "line 4, log.bare_lf: is not a setting. To fix: move it to [[listeners]]"),
        (VAULT + "[log]\nidle_seconds = 3\n", "line 4, log.idle_seconds: is not a setting. To fix: move it to [[listeners]] or [smarthosts.NAME] or [providers.NAME]"),
        (VAULT + "[delivery]\nMax-Connections = 3\n", "line 4, delivery.Max-Connections: is not a setting. To fix: move it to [[listeners]]"),
        (VAULT + '[[listeners]]\nauth = "required"\n', 'line 4, listeners[0].auth: is "required", but no client has a user name. To fix: add [[clients]] with a user and a password'),
        ('[vault]\nunlock = "passphrase:geheim-1"\n', 'line 2, vault.unlock: has text after the word passphrase. To fix: write "passphrase" alone: the passphrase is asked for at the start and never stored here'),
        (VAULT + "[spool]\nfirst_retry_seconds = 3600\n", "line 4, spool.first_retry_seconds: is longer than longest_retry_seconds. To fix: write a shorter one, or raise longest_retry_seconds"),
        (VAULT + '[spool]\nreports_to = "192.168.1.20:0"\n', 'line 4, spool.reports_to: has no port. To fix: write the server with its port, like "192.168.1.20:25"'),
        (VAULT + '[spool]\ngive_up_hours = "2 days"\n', 'line 4, spool.give_up_hours: "2 days" is not a number. To fix: write hours from 0.01 to 1000, without quotation marks'),
        (VAULT + '[[listeners]]\nmode = "spool"\n', 'line 4, listeners[0].mode: "spool" is unknown. To fix: write "pass-through" or "queue"'),
        (VAULT + '[identity]\nhostname = "my_pc"\n', 'line 4, identity.hostname: "my_pc" has an underscore. To fix: write a host name: it has letters, digits and hyphens only'),
        (VAULT + '[providers.x]\nhost = "h"\nca_file = "."\n', None),
    ],
)  # fmt: skip
def test_one_problem_is_one_line(file: Path, text: str, expected: str | None) -> None:
    folder = file.parent
    assert problems(file, text) == [
        expected or f'line 5, providers.x.ca_file: "{folder}" is a folder. To fix: write the path of the PEM file'
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[vault]\nunlock = passphrase\n", "line 2: the text after = is not a value (column 10). To fix: put text in quotation marks"),
        ("[vault]\nunlock = \n", "line 2: the text after = is not a value (column 10). To fix: put text in quotation marks"),
        ("[vault]\nunlock passphrase\n", "line 2: = is missing after the name (column 8). To fix: write: name = value"),
        ('[vault]\nunlock = "passphrase\n', "line 2: a quotation mark is not closed on its line (column 21). To fix: close it"),
        ('[vault]\npath = "C:\\Users"\n', "line 2: a backslash between double quotation marks starts an escape sequence (column 13). To fix: use single quotation marks"),
        ('[vault]\npath = "C:\\data"\n', "line 2: a backslash between double quotation marks starts an escape sequence (column 13). To fix: use single quotation marks"),
        ('[vault]\npath = "x" [\n', "line 2: there is more text after the value (column 12). To fix: start a new line for it"),
        ("unlock = 'x\n", "line 1: a quotation mark is not closed (at the end of the file). To fix: close it"),
        ('path = """\nx', "line 2: a quotation mark is not closed (at the end of the file). To fix: close it"),
        ("[vault]\n[vault]\n", "line 2: this section is there twice (column 7). To fix: put all its settings into one"),
        ('[vault]\na = 1\na = 2\n', "line 3: this setting is there twice (column 6). To fix: remove one of them"),
        ("[[listeners]\n", "line 1: the brackets of a section are not closed (column 12). To fix: write it like: [[listeners]]"),
        ("[vault\n", "line 1: the bracket of a section is not closed (column 7). To fix: write it like: [vault]"),
        ('a = [1\n', "line 1: a square bracket is not closed (at the end of the file). To fix: close it, and put commas between the values"),
        ('a = 1 b = 2\n', "line 1: there is more text after the value (column 7). To fix: start a new line for it"),
        ("= 1\n", "line 1: this line is not a setting (column 1). To fix: write: name = value"),
    ],
)  # fmt: skip
def test_a_syntax_error_is_reported_with_line_and_column(file: Path, text: str, expected: str) -> None:
    assert problems(file, text) == [expected]


def test_a_character_that_is_not_utf8_is_reported_with_its_line(file: Path) -> None:
    assert problems(file, b"# \xc3\xa4\n# M\xfcller\n") == [
        "line 2: a character is not UTF-8. To fix: save the file as UTF-8"
    ]


def test_a_file_written_by_notepad_is_loaded(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf[vault]\r\nunlock = 'passphrase'\r\n")
    assert load_config(file).vault.unlock == "passphrase"


def test_a_missing_file_has_setup_as_its_hint(file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    assert refused.value.problems == (Problem((), "the file does not exist", "write one with: senderproxy setup"),)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"this is a folder\. To fix: write the path of the file in it"):
        load_config(tmp_path)


def test_relative_paths_start_at_the_files_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent
    for name in ("c.pem", "k.pem", "ca.pem"):
        (folder / name).touch()
    file.write_text("""\
[vault]
path = "accounts.vault"
unlock = "key-file:vault.key"
[[listeners]]
tls = "starttls"
certificate = "c.pem"
key = "./k.pem"
[providers.own]
host = "smtp.x.example"
ca_file = "ca.pem"
[service]
control_socket = "control.sock"
""")
    monkeypatch.chdir(folder)
    for path in (file, Path("senderproxy.toml")):
        config = load_config(path)
        assert config.vault.path == f"{folder}/accounts.vault"
        assert config.vault.unlock == f"key-file:{folder}/vault.key"
        assert (config.listeners[0].certificate, config.listeners[0].key) == (f"{folder}/c.pem", f"{folder}/k.pem")
        assert config.providers["own"].ca_file == f"{folder}/ca.pem"
        assert config.service.control_socket == f"{folder}/control.sock"


def test_a_vault_in_the_database_is_no_path(file: Path) -> None:
    spool = '[spool]\nengine = "postgresql://senderproxy@localhost/mail"\n'
    file.write_text(f'[vault]\npath = "database"\nunlock = "passphrase"\n{spool}')
    config = load_config(file)
    assert config.vault.in_database
    assert config.vault.files == "/var/lib/senderproxy/accounts.vault"
    assert config.vault_name == "postgresql://senderproxy@localhost/mail"
    file.write_text(f'[vault]\npath = "database"\ndirectory = "database"\nunlock = "passphrase"\n{spool}')
    assert load_config(file).vault.files == f"{file.parent}/database/accounts.vault"
    paths = installation_paths(file.read_text(), file.parent)
    assert (paths.vault, paths.vault_in_database) == (file.parent / "database" / "accounts.vault", True)
    file.write_text('[vault]\npath = "./database"\nunlock = "passphrase"\n')
    config = load_config(file)
    assert not config.vault.in_database
    assert config.vault.files == config.vault_name == config.vault.path == f"{file.parent}/database"


def test_absolute_paths_are_unchanged(file: Path) -> None:
    file.write_text('[vault]\npath = "/srv/x.vault"\nunlock = "key-file:/srv/x.key"\n')
    config = load_config(file)
    assert (config.vault.path, config.vault.unlock) == ("/srv/x.vault", "key-file:/srv/x.key")


def test_a_name_server_that_does_not_answer_leaves_the_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr("socket.gethostname", lambda: "vm")
    monkeypatch.setattr("socket.getfqdn", lambda name: f"{name}.firma.example" if answer.wait(30) else name)
    monkeypatch.setattr("senderproxy.config.load._NAME_TIMEOUT", 0.01)
    assert system_hostname() == "vm"
    answer.set()
    monkeypatch.setattr("senderproxy.config.load._NAME_TIMEOUT", 30.0)
    assert system_hostname() == "vm.firma.example"


def test_a_machine_without_a_usable_name_needs_a_hostname(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my_pc")
    monkeypatch.setattr("socket.getfqdn", lambda _name: "my_pc")
    assert system_hostname() is None
    assert problems(file, VAULT) == [
        (
            "identity.hostname: is missing. To fix: this machine has no usable name of its own:"
            ' write hostname = "mail.firma.example"'
        )
    ]


@pytest.mark.parametrize(
    ("short", "full", "name"),
    [
        ("mail", "mail.firma.example", "mail.firma.example"),
        ("mail", "localhost.localdomain", "mail"),
        ("mail", "mail", "mail"),
        ("Mail.Firma.Example", "unused", "mail.firma.example"),
    ],
)
def test_the_fully_qualified_name_is_preferred(
    short: str, full: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: short)
    monkeypatch.setattr("socket.getfqdn", lambda _name: full)
    monkeypatch.setattr("senderproxy.config.load._NAME_TIMEOUT", 60.0)
    assert system_hostname() == name


def test_a_file_that_others_can_read_or_change_is_warned_about(file: Path, tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    (tmp_path / "c.pem").touch()
    key.touch(0o644)
    file.write_text(
        f'{VAULT}[[listeners]]\nauth = "optional"\ntls = "starttls"\ncertificate = "c.pem"\nkey = "k.pem"\n'
        f'[[clients]]\nuser = "scanner"\npassword = "{HASH}"\n'
    )
    config = load_config(file)
    file.chmod(0o666)
    key.chmod(0o644)
    assert [str(warning) for warning in find_warnings(file, config)] == [
        f"users other than the owner can change {file}, and with it who may send as whom. To fix: chmod go-w {file}",
        f"{file} contains password hashes, and every user of this machine can read it. To fix: chmod o-r {file}",
        f"listeners[0].key: every user of this machine can read {key}. To fix: chmod o-r {key}",
    ]
    file.chmod(0o640)
    key.chmod(0o640)
    assert find_warnings(file, config) == ()
    file.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert find_warnings(file, config.model_copy(update={"clients": (), "listeners": ()})) == ()


_names = st.sampled_from(
    [
        "identity",
        "vault",
        "listeners",
        "clients",
        "routing",
        "providers",
        "delivery",
        "spool",
        "service",
        "log",
        "hostname",
        "path",
        "unlock",
        "name",
        "address",
        "tls",
        "certificate",
        "key",
        "allow",
        "auth",
        "user",
        "password",
        "networks",
        "senders",
        "author_order",
        "default_account",
        "preset",
        "host",
        "port",
        "security",
        "ca_file",
        "mechanisms",
        "sender_rule",
        "connect_seconds",
        "control_socket",
        "stop_seconds",
        "level",
        "format",
        "routes",
        "smarthosts",
        "via",
        "recipients",
        "zzz",
    ]
)
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70000),
    st.floats(),
    st.sampled_from(
        ["", "passphrase", "127.0.0.1:25", "0.0.0.0:25", "required", "starttls", "anna@x.example", "none", "{0}"]
    ),
    st.text(max_size=5),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(_names, _trees, max_size=6))
def test_any_document_gives_a_configuration_or_a_list_of_problems(tree: dict[str, object]) -> None:
    config, found = read_settings(tree, Path("/nowhere"))
    assert isinstance(config, Config) != bool(found)
    for problem in found:
        assert problem.message
        assert problem.hint
        assert problem.hint != "see docs/config.md", problem


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[service]\ncontrol_socket = "run/own.sock"\n[spool]\nmin_free = []\n', "{folder}/run/own.sock"),
        ("[service]\n control_socket='/run/other.sock'\n[[broken", "/run/other.sock"),
        ('# control_socket = "/no"\n[[broken', "/run/senderproxy/control.sock"),
        ("service = 5", "/run/senderproxy/control.sock"),
        ("[service]\ncontrol_socket = 7", "/run/senderproxy/control.sock"),
        ("[service]\ncontrol_socket = ''", "/run/senderproxy/control.sock"),
        ("x = " + "[" * 5000, "/run/senderproxy/control.sock"),
    ],
)
def test_the_control_socket_is_found_in_an_invalid_file(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "senderproxy.toml"
    path.write_text(text)
    assert str(find_control_socket(path)) == found.format(folder=tmp_path)
    path.unlink()
    assert str(find_control_socket(path)) == "/run/senderproxy/control.sock"
