"""Tables of accounts as tools write them: encodings, lines before the heading, headings, cells."""

from pathlib import Path

import pytest

from senderproxy.cli.account_columns import CellAddresses, is_hash, plain_login, read_addresses
from senderproxy.cli.account_table import Row, _read_row, _read_table
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.config.model import Config
from senderproxy.mail.address import AddressError
from senderproxy.routing.account import Account

_CONFIG = Config.model_validate(
    {
        "identity": {"hostname": "relay.example"},
        "vault": {"unlock": "passphrase"},
        "providers": {"ionos": {"preset": "ionos-de"}, "web": {"preset": "web.de"}},
    }
)


def read(folder: Path, content: str | bytes, *, encoding: str | None = None, provider: str = "ionos") -> list[Row]:
    path = folder / "accounts.csv"
    path.touch(mode=0o600)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    table = _read_table(path, encoding)
    return [_read_row(_CONFIG, provider, line, cells) for line, cells in table.rows]


def account(row: Row) -> Account:
    assert row.stored is not None, row.result
    return row.stored.account


CARL = "carl@firma.example"
TABLES = {
    "IONOS": f"E-Mail-Adresse;Passwort\r\n{CARL};pw\r\n",
    "IONOS, all its columns": f"E-Mail-Adresse;Typ;Speicherplatz;Passwort\r\n{CARL};Mail Basic;2 GB;pw\r\n",
    "Plesk": f'"Email address","Mailbox quota","Password"\n"{CARL}","1 GB","pw"\n',
    "Exchange": f'#TYPE Selected.Microsoft.Exchange\r\n"DisplayName","PrimarySmtpAddress","Password"\r\n"Carl","{CARL}","pw"\r\n',
    "Exchange, with nickname": f'"Alias","SamAccountName","PrimarySmtpAddress","Kennwort"\r\n"carl","c1","SMTP:{CARL}","pw"\r\n',
    "Exchange, all addresses": f'EmailAddresses,Password\n"smtp:c@firma.example SIP:c@firma.example SMTP:{CARL}",pw\n',
    "Active Directory": f'"userPrincipalName","Passwort"\r\n"{CARL}","pw"\r\n',
    "LDAP": f'dn,cn,mail,uid,userPassword\n"uid=carl,ou=people",Carl,{CARL},carl,pw\n',
    "LDAP, proxyAddresses": f"mail;proxyAddresses;userPassword\nsmtp:{CARL};SMTP:{CARL};pw\n",
    "Excel's sep=": f"sep=;\r\nlogin;password\r\n{CARL};pw\r\n",
    "sep= in quotation marks": f'"sep=,"\r\nlogin,password\r\n{CARL},pw\r\n',
    "sep= tab": f"SEP=\t\r\nlogin\tpassword\r\n{CARL}\tpw\r\n",
    "sep= of its own": f"sep=^\r\nlogin^password\r\n{CARL}^pw\r\n",
    "mark, sep=, type and empty rows": f"\ufeffsep=,\r\n#TYPE X\r\n,,\r\n\r\nlogin,password\r\n{CARL},pw\r\n",
    "comment": f"# mailboxes; passwords\nlogin;password\n{CARL};pw\n",
    "name and address": f'E-Mail;Passwort\n"Huber, Carl <{CARL}>";pw\n',
    "login with a name": f"login;password\nCarl <{CARL}>;pw\n",
    "mailto": f"login;password\nmailto:{CARL};pw\n",
    "vertical bars": f"Email|Password\n{CARL}|pw\n",
    "line ends of old Macs": f"login;password\r{CARL};pw\r",
    "blanks around headings": f" E-Mail-Adresse ; Passwort \n{CARL};pw\n",
    "a delimiter in a heading": f'"Name, Vorname";E-Mail-Adresse;Passwort\n"Huber, Carl";{CARL};pw\n',
    "headings with remarks": f"Email Address [Required],Password (new),First Name [Required]\n{CARL},pw,Carl\n",
    "blanks before quotation marks": f'"login", "password"\n"{CARL}", "pw"\n',
    "account names": f"E-Mail-Konto;Postfach-Passwort\n{CARL};pw\n",
    "Plesk, local part and domain": '"Mail name","Domain","Password"\n"carl","firma.example","pw"\n',
    "Plesk, the other order": "Domain;Mail name;Description;Passwort\nfirma.example;carl;x;pw\n",
    "an address and its domain": f"Domain;E-Mail;Passwort\nother.example;{CARL};pw\n",
    "end of a file of DOS": f"login;password\n{CARL};pw\n\x1a",
    "LDIF": f"version: 1\n\ndn: ou=people\nobjectClass: top\n\n# Carl\ndn: uid=carl,\n ou=people\nobjectClass: x\n"
    f"objectClass: y\nuid: carl\nmail: {CARL}\nuserPassword:: cHc=\n",
    "LDIF, folded": "dn: cn=Carl\r\nmail: carl@\r\n firma.example\r\n# a comment\r\n  of two lines\r\nUserPassword: pw",
    "LDIF, two addresses": f"dn: cn=Carl\nmail: {CARL}\nmail: c@firma.example\ncn;lang-de: Karl\nuserPassword: pw\n",
    "empty cells at the end": f"login;password;;;\n{CARL};pw;;;;;;\n;;;;\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_of_a_tool_is_read(tmp_path: Path, table: str, encoding: str) -> None:
    [row] = read(tmp_path, table.removeprefix("\ufeff").encode(encoding))
    assert row.stored is not None, row.result
    assert (str(row.stored.account.address), row.stored.account.login, row.stored.secret) == (CARL, CARL, "pw")


def test_utf_16_in_the_other_order_is_read(tmp_path: Path) -> None:
    [row] = read(tmp_path, f"\ufefflogin;password\r\n{CARL};grün\r\n".encode("utf-16-be"))
    assert row.stored is not None
    assert row.stored.secret == "grün"


def test_the_login_follows_from_the_address_as_usual_at_the_provider(tmp_path: Path) -> None:
    [row] = read(tmp_path, "E-Mail-Adresse;Passwort\ncarl@web.de;pw\n", provider="web")
    assert account(row).login == "carl"


def test_a_blank_at_the_edge_of_a_password_stays_and_is_reported(tmp_path: Path) -> None:
    [row] = read(tmp_path, f"login, password\n{CARL}, pw\n")
    assert row.stored is not None
    assert (row.stored.secret, row.result) == (" pw", "valid; the password begins or ends with a blank")


def test_line_numbers_count_the_lines_before_the_heading(tmp_path: Path) -> None:
    rows = read(tmp_path, f"sep=;\r\n\r\nlogin;password\r\n{CARL};pw\r\n\r\n{CARL};\r\n")
    assert [row.line for row in rows] == [4, 6]


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("login;user;password", ("login (column 1)", "user (column 2)", "the login")),
        ("E-Mail;Passwort;Kennwort", ("Passwort (column 2)", "Kennwort (column 3)", "the password")),
        ("E-Mail-Adresse;Mail;Passwort", ("E-Mail-Adresse (column 1)", "Mail (column 2)", "the address")),
        ("sAMAccountName;userPrincipalName;Passwort", ("sAMAccountName (column 1)", "userPrincipalName (column 2)")),
        ("login;password;Password", ("password (column 2)", "Password (column 3)")),
        ("login;password;Anbieter;provider", ("Anbieter (column 3)", "provider (column 4)")),
    ],
)
def test_two_candidates_are_an_error_that_names_both(tmp_path: Path, heading: str, names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path, f"{heading}\na@b.example;b;c;d\n")
    for name in names:
        assert name in raised.value.message


@pytest.mark.parametrize(
    "content",
    [
        "login;password\ncarl@firma.example;grün\n".encode("cp1252"),
        "login;password\ncarl@firma.example;grün\n".encode("cp850"),
        "login;password\nmüller;pw\n".encode("cp1252"),
        "email;password\ncarl@müller.example;pw\n".encode("iso-8859-1"),
        "login;password\ncarl@firma.example;pw\n".encode("utf-16-le"),
        "login;password\ncarl@firma.example;pw\n".encode("utf-16-be"),
    ],
)
def test_an_encoding_is_never_guessed_for_login_and_password(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"The encoding of .* is unknown") as raised:
        read(tmp_path, content)
    assert "--encoding" in raised.value.hint


@pytest.mark.parametrize("encoding", ["cp1252", "windows-1252", "cp850", "ISO-8859-15", "utf-16-le", "macintosh"])
def test_a_named_encoding_is_used(tmp_path: Path, encoding: str) -> None:
    [row] = read(tmp_path, f"login;password\n{CARL};grün\n".encode(encoding), encoding=encoding)
    assert row.stored is not None
    assert row.stored.secret == "grün"


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (b"login;password\n", "klingon", "Unknown encoding"),
        (b"login;password\n", "punycode", "Unknown encoding"),
        (b"login;password\n", "", "Unknown encoding"),
        (b"\xef\xbb\xbflogin;password\n", "cp1252", "byte order mark of utf-8"),
        (b"login;password\na;gr\xfcn", "utf-8", "not a text file in utf-8"),
    ],
)
def test_an_encoding_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, encoding: str, words: str) -> None:
    with pytest.raises((UsageError, InputError), match=words):
        read(tmp_path, content, encoding=encoding)


@pytest.mark.parametrize("rows", [f'{CARL};"pw\ndora@firma.example;pw\n', f'{CARL};"p"w\n', f"{CARL};geheim;mehr\n"])
def test_a_table_that_would_lose_a_part_of_a_password_is_refused(tmp_path: Path, rows: str) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, f"login;password\n{rows}")
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        ("carl@a.example", "", "carl@a.example"),
        ("Carl <carl@a.example>", "", "carl@a.example"),
        ('"Huber, Carl (x@b.example)" <carl@a.example>', "", "carl@a.example"),
        ("", "carl@a.example info@a.example", "carl@a.example info@a.example"),
        ("", "Carl <carl@a.example>, Info <info@a.example>", "carl@a.example info@a.example"),
        ("", "smtp:info@a.example;SMTP:carl@a.example", "carl@a.example info@a.example"),
        ("", "smtp:info@a.example,SIP:x@a.example,SMTP:carl@a.example", "carl@a.example info@a.example"),
        ("", "X400:C=DE;A= ;P=Firma GmbH;O=Exchange;S=Carl;SMTP:carl@a.example", "carl@a.example"),
        ("", "SMTP:carl@a.example;x500:/o=Firma GmbH/ou=First/cn=carl", "carl@a.example"),
        ("carl@a.example", "SMTP:carl@a.example;smtp:info@a.example", "carl@a.example info@a.example"),
        ("", "@a.example carl@a.example", "carl@a.example @a.example"),
        ("", "carl@a.example|info@a.example", "carl@a.example info@a.example"),
        ("", "carl@a.example\r\ninfo@a.example", "carl@a.example info@a.example"),
        ("mailto:carl@a.example", "", "carl@a.example"),
    ],
)
def test_cells_with_addresses(own: str, others: str, expected: str) -> None:
    assert " ".join(map(str, read_addresses(own, others).patterns)) == expected


@pytest.mark.parametrize("text", ["carl", "System.String[]", "carl@", "<>", "Carl <carl>", "a@b.example dora", '"'])
def test_cells_without_a_readable_address_are_an_error(text: str) -> None:
    with pytest.raises(AddressError):
        read_addresses(text, "")


def test_an_empty_cell_has_no_address() -> None:
    assert read_addresses("", " ") == CellAddresses((), "")


@pytest.mark.parametrize(
    ("text", "login"),
    [("carl", "carl"), ("SMTP:a@b.example", "a@b.example"), ("smtp:1", "smtp:1"), ("A <a@b.example>", "a@b.example"),
     ("<x>", "<x>"), ("DOMAIN\\carl", "DOMAIN\\carl")],
)  # fmt: skip
def test_a_login_is_unchanged_but_for_what_mail_programs_add(text: str, login: str) -> None:
    assert plain_login(text) == login


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3", True),
        ("$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.", True),
        ("$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", True),
        ("{SSHA}", False),
        ("$1$abc", False),
        ("pw", False),
        ("${SSHA}pw", False),
    ],
)
def test_a_hash_is_no_password(secret: str, expected: bool) -> None:
    assert is_hash(secret) is expected


def test_ten_thousand_rows_are_read(tmp_path: Path) -> None:
    rows = read(tmp_path, "login;password\n" + "".join(f"u{n}@a.example;pw\n" for n in range(10_000)))
    assert all(row.stored for row in rows)


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="larger than 16 MiB"):
        read(tmp_path, b"login;password\n" * 1_200_000)
