"""`senderproxy account import` and `export`."""

from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.cli import account_table
from senderproxy.errors import SenderproxyError
from tests.senderproxy.cli.conftest import PASSWORDS, Office

GOOD = "login;password;provider;addresses;display name\n"


def table(office: Office, content: str | bytes, name: str = "accounts.csv") -> str:
    path = office.folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return str(path)


def ids(office: Office) -> list[str]:
    return [account["id"] for account in office.type("account", "list", "--json").json]


def test_all_rows_are_imported_together_after_one_try_of_each_login(office: Office) -> None:
    path = table(
        office,
        GOOD
        + "anna@firma.example;geheim-anna;ionos;anna@firma.example info@firma.example;Anna Müller\n"
        + "bert@firma.example;geheim-bert;ionos;;\n"
        + "post@laden.example;geheim-laden;ionos;@laden.example;\n",
    )
    ended = office.type("account", "import", path, "--verify")
    assert ended.code == 0, ended.out
    assert "Imported 3 accounts." in ended.out
    assert (len(office.simulator.logins()), office.simulator.failed_logins()) == (3, 0)
    accounts = {account["id"]: account for account in office.type("account", "list", "--json").json}
    assert accounts["anna@firma.example"]["carries"] == ["anna@firma.example", "info@firma.example"]
    assert accounts["anna@firma.example"]["display_name"] == "Anna Müller"
    assert accounts["post@laden.example"]["carries"] == ["post@laden.example", "@laden.example"]
    assert office.type("account", "verify").code == 0


def test_one_invalid_row_stops_the_import_and_each_row_has_its_result(office: Office) -> None:
    office.add("bert@firma.example")
    path = table(
        office,
        GOOD
        + "anna@firma.example;geheim-anna;ionos;;\n"
        + "bert@firma.example;geheim-bert;ionos;;\n"
        + "carl@firma.example;;ionos;;\n"
        + "dora;geheim-dora;ionos;;\n"
        + "emil@firma.example;geheim-emil;ionso;;\n"
        + ";geheim-niemand;ionos;;\n"
        + "fritz@firma.example;geheim-\x07;ionos;;\n"
        + "anna@firma.example;geheim-zwei;ionos;;\n"
        + "gabi@firma.example;geheim-gabi;ionos;gabi@firma.example bert@firma.example;\n",
    )
    ended = office.type("account", "import", path, "--json")
    assert ended.code == 1
    verdicts = {row["line"]: row["words"] for row in ended.json}
    assert verdicts[2] == "valid"
    assert "--replace" in verdicts[3]
    assert verdicts[4] == "the password is empty"
    assert "dora has no @" in verdicts[5]
    assert verdicts[6] == "there is no provider ionso"
    assert verdicts[7] == "the login is empty"
    assert "control character" in verdicts[8]
    assert verdicts[9] == "the same account as in line 2"
    assert "both have bert@firma.example" in verdicts[10]
    assert ids(office) == ["bert@firma.example"]
    told = office.type("account", "import", path)
    assert "Nothing was imported: 8 of 9 rows are invalid." in told.out


def test_a_refused_login_stops_the_import(office: Office) -> None:
    path = table(
        office, GOOD + "anna@firma.example;geheim-anna;ionos;;\n" + "bert@firma.example;geheim-falsch;ionos;;\n"
    )
    ended = office.type("account", "import", path, "--verify")
    assert ended.code == 1
    assert "anna@firma.example  valid, the login works" in ended.out
    assert "535 Authentication credentials invalid" in ended.out
    assert ids(office) == []
    assert office.simulator.failed_logins() == 1


def test_an_unreachable_provider_is_tried_once_and_not_for_each_row(office: Office) -> None:
    office.write_config('[providers.away]\nhost = "127.0.0.1"\nport = 1\nsecurity = "tls"')
    path = table(office, GOOD + "".join(f"{name}@firma.example;geheim-x;away;;\n" for name in ("a", "b", "c")))
    ended = office.type("account", "import", path, "--verify")
    assert ended.code == 1
    assert ended.out.count("could not be tried") == 1
    assert ended.out.count("not tried: away cannot be reached, see line 2") == 2


def test_a_dry_run_changes_nothing(office: Office) -> None:
    ended = office.type(
        "account", "import", table(office, GOOD + "anna@firma.example;geheim-anna;ionos;;\n"), "--dry-run"
    )
    assert ended.code == 0
    assert "Nothing was imported (--dry-run)." in ended.out
    assert ids(office) == []


def test_existing_accounts_are_replaced_only_with_the_option(office: Office) -> None:
    office.add("anna@firma.example", "--also", "info@firma.example")
    path = table(office, GOOD + "anna@firma.example;geheim-anna;ionos;;\n")
    assert office.type("account", "import", path).code == 1
    ended = office.type("account", "import", path, "--replace")
    assert ended.code == 0
    assert "replaces the existing account" in ended.out
    assert office.type("account", "show", "anna@firma.example", "--json").json["carries"] == ["anna@firma.example"]


@pytest.mark.parametrize(
    "content",
    [
        b"login,password,provider\nanna@firma.example,geheim-anna,ionos\n",
        "\ufefflogin;password;provider\r\nanna@firma.example;geheim-anna;ionos\r\n".encode(),
        "Benutzername;Passwort;Anbieter;Anzeigename\nanna@firma.example;geheim-anna;ionos;Anna Müller\n".encode(
            "cp1252"
        ),
        "login\tpassword\tprovider\nanna@firma.example\tgeheim-anna\tionos\n".encode("utf-16"),
        b'login,password,provider\n"anna@firma.example","geheim-anna","ionos"\n\n',
    ],
    ids=["commas", "marked UTF-8 with CRLF", "German, Windows", "tabs, UTF-16", "quoted, blank line"],
)
def test_the_formats_of_spreadsheets_are_read(office: Office, content: bytes) -> None:
    ended = office.type("account", "import", table(office, content), "--verify")
    assert ended.code == 0, ended.out + ended.err


def test_a_password_with_delimiters_quotes_and_blanks_is_read_unchanged(office: Office) -> None:
    path = table(office, 'login;password;provider\nanna@firma.example;" geheim-;""x"", ";ionos\n')
    assert office.type("account", "import", path).code == 0
    from senderproxy.accounts.unlock import unlock_method
    from senderproxy.accounts.vault_accounts import VaultAccounts

    accounts = VaultAccounts.open(
        office.folder / "accounts.vault", unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    )
    account = accounts.directory().by_id("anna@firma.example")
    assert account is not None
    credential = accounts.credential(account)
    assert credential is not None
    assert credential.reveal() == ' geheim-;"x", '


def test_a_file_that_other_users_can_read_is_reported(office: Office) -> None:
    path = table(office, GOOD + "anna@firma.example;geheim-anna;ionos;;\n")
    Path(path).chmod(0o644)
    assert f"chmod 600 {path}" in office.type("account", "import", path).err


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", 64, "must name the columns"),
        (b"anna@firma.example;geheim-anna\n", 64, "must name the columns"),
        (GOOD.encode(), 64, "has no rows"),
        (b"\xff\xfe\x00", 66, "is not a text file"),
        (b"login;password\n" + b"x" * 200_000 + b";y\n", 66, "is not a valid table"),
    ],
)
def test_an_invalid_table_is_refused(office: Office, content: bytes, code: int, words: str) -> None:
    ended = office.type("account", "import", table(office, content))
    assert ended.code == code
    assert words in ended.err


def test_a_file_that_is_not_there_is_66(office: Office) -> None:
    assert office.type("account", "import", str(office.folder / "nowhere.csv")).code == 66


def test_an_export_with_passwords_filled_in_can_be_imported(office: Office) -> None:
    office.add("anna@firma.example", "--also", "info@firma.example", "--display-name", "Müller; Anna")
    exported = office.type("account", "export")
    assert exported.code == 0
    office.type("account", "remove", "anna@firma.example", "--yes")
    filled = exported.out.replace(";;ionos", ";geheim-anna;ionos")
    assert office.type("account", "import", table(office, filled), "--verify").code == 0
    assert office.type("account", "export").out == exported.out
    assert office.type("account", "export", "--json").json[0]["display_name"] == "Müller; Anna"


# ---- columns, encodings ----


def test_the_import_prints_the_meaning_of_each_column(office: Office) -> None:
    content = "Nr;E-Mail-Adresse;Passwort;Typ\n1;anna@firma.example;geheim-anna;Basic\n"
    ended = office.type("account", "import", table(office, content), "--provider", "ionos")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[:4] == [
        "Column 2, E-Mail-Adresse: address",
        "Column 3, Passwort: password",
        "No column has the login: it follows from the address.",
        "Not used: Nr, Typ",
    ]
    assert office.type("account", "show", "anna@firma.example", "--json").json["login"] == "anna@firma.example"


def test_the_meaning_of_columns_is_not_in_the_json_output(office: Office) -> None:
    ended = office.type("account", "import", table(office, GOOD + "anna@firma.example;geheim-anna;ionos;;\n"), "--json")
    assert [row["right"] for row in ended.json] == [True]
    assert "Column 1, login: login" in ended.err


def test_no_cell_of_a_table_without_heading_is_printed(office: Office) -> None:
    ended = office.type("account", "import", table(office, "anna@firma.example;geheim-anna\n" * 2))
    assert ended.code == 64
    assert "anna" not in ended.out + ended.err.replace(str(office.folder), "")


def test_a_terminal_is_asked_for_the_encoding(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(office, "login;password;provider\nanna@firma.example;geheim-grün;ionos\n".encode("cp850"))
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "cp850"

    assert office.type("account", "import", path).code == 64
    monkeypatch.setattr(account_table, "is_interactive", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    ended = office.type("account", "import", path)
    assert ended.code == 0, ended.err
    assert len(asked) == 1
    assert secret_of(office, "anna@firma.example") == "geheim-grün"


# ---- replacing ----


def test_what_the_table_has_no_column_for_stays(office: Office) -> None:
    office.add(
        "anna@firma.example",
        "--id",
        "anna",
        "--login",
        "m1234",
        "--also",
        "info@firma.example",
        "--display-name",
        "Anna",
    )
    office.type("account", "edit", "anna", "--messages-per-hour", "30", "--connections", "2")
    before = office.type("account", "show", "anna", "--json").json
    path = table(office, "E-Mail-Adresse;Passwort\nanna@firma.example;geheim-neu\n")
    ended = office.type("account", "import", path, "--replace")
    assert ended.code == 0, ended.out
    assert "valid, replaces the existing account: another password\n" in ended.out
    assert office.type("account", "show", "anna", "--json").json == before
    assert ids(office) == ["anna"]
    assert secret_of(office, "anna") == "geheim-neu"


def test_a_table_without_passwords_changes_the_rest(office: Office) -> None:
    office.add("anna@firma.example", "--also", "info@firma.example", "--display-name", "Anna")
    path = table(office, "login;addresses;name\nanna@firma.example;anna@firma.example post@firma.example;Anna Huber\n")
    assert "must name the columns" in office.type("account", "import", path).err
    ended = office.type("account", "import", path, "--replace")
    assert ended.code == 0, ended.out
    assert (
        "replaces the existing account: display name Anna Huber instead of Anna, +post@firma.example, -info@firma.example"
        in ended.out
    )
    assert secret_of(office, "anna@firma.example") == PASSWORDS["anna@firma.example"]
    again = office.type("account", "import", path, "--replace")
    assert "valid, no change" in again.out
    new = table(office, "login;provider\nnew@firma.example;ionos\n")
    assert "the password is missing" in office.type("account", "import", new, "--replace").out


def test_changes_are_printed_before_they_are_stored(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add("anna@firma.example")
    path = table(office, "login;password\nanna@firma.example;geheim-neu\n")

    def fail(*_arguments: object) -> None:
        raise SenderproxyError("no space")

    monkeypatch.setattr(AccountEditor, "save", fail)
    ended = office.type("account", "import", path, "--replace")
    assert "another password" in ended.out
    assert "no space" in ended.err
    assert secret_of(office, "anna@firma.example") == PASSWORDS["anna@firma.example"]


def test_an_account_that_another_command_changes_meanwhile_stays(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.add("anna@firma.example")
    path = table(office, "login;password\nanna@firma.example;geheim-neu\n")
    print_rows = account_table._print_rows

    def change_first(rows: list[account_table.Row], *, as_json: bool) -> None:
        print_rows(rows, as_json=as_json)
        with AccountEditor.open(office.folder / "accounts.vault", unlock(office)) as editor:
            editor.put(replace(editor.find("anna@firma.example"), secret="geheim-andere"))
            editor.save()

    monkeypatch.setattr(account_table, "_print_rows", change_first)
    ended = office.type("account", "import", path, "--replace")
    assert ended.code != 0
    assert "was changed by another command meanwhile" in ended.err
    assert secret_of(office, "anna@firma.example") == "geheim-andere"


def test_an_address_may_move_from_one_account_to_another(office: Office) -> None:
    office.add("anna@firma.example", "--also", "info@firma.example")
    office.add("bert@firma.example")
    rows = "anna@firma.example;geheim-anna;ionos;;\nbert@firma.example;geheim-bert;ionos;{} info@firma.example;\n"
    path = table(office, GOOD + rows.format("bert@firma.example"))
    assert office.type("account", "import", path, "--replace").code == 0
    assert "info@firma.example" in office.type("account", "show", "bert@firma.example", "--json").json["carries"]


def unlock(office: Office) -> UnlockMethod:
    return unlock_method(f"key-file:{office.folder / 'vault.key'}", None)


def secret_of(office: Office, account_id: str) -> str:
    with AccountEditor.open(office.folder / "accounts.vault", unlock(office)) as editor:
        return editor.find(account_id).secret
