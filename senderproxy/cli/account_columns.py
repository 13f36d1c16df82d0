"""The meaning of the columns and cells of a table of accounts. PURE.

Guarantees: each meaning has one column, or the error names all candidates; only `addresses` may have several. A
password is its cell, unchanged. Each function is linear in its text.
Not here: reading the file (cli.csv_file), validating the accounts (cli.account_table).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from senderproxy.cli.errors import UsageError
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_pattern
from senderproxy.translation import N_, _

LOGIN, SECRET, PROVIDER, ID, NAME = "login", "secret", "provider", "id", "display_name"
ADDRESS: Final = "address"  # the mailbox's own
ADDRESSES: Final = "addresses"  # all of them; several columns
FALLBACK: Final = "fallback"  # the account that sends in its place, by id or mailbox address
DOMAIN: Final = "domain"  # of an address that is a local part alone (Plesk: `Mail name` and `Domain`)
_MEANINGS: Final = {
    LOGIN: N_("login"),
    SECRET: N_("password"),
    PROVIDER: N_("provider"),
    ID: N_("id"),
    NAME: N_("display name"),
    ADDRESS: N_("address"),
    ADDRESSES: N_("addresses"),
    FALLBACK: N_("fallback"),
    DOMAIN: N_("domain of the address"),
}

# Headings without their blanks, hyphens and case: of spreadsheets, IONOS, Plesk, Exchange, Active Directory and LDAP.
_HEADINGS: Final = {
    ID: "id account accountid konto",
    LOGIN: "login loginname user username benutzer benutzername benutzerkennung anmeldename smtpuser smtpusername"
    " smtplogin smtpbenutzername maillogin mailuser mailbenutzer emaillogin postfachlogin mailboxlogin",
    SECRET: "password passwort kennwort pass pw pwd userpassword mailpassword mailpasswort emailpassword emailpasswort"
    " emailkennwort smtppassword smtppasswort postfachpasswort postfachkennwort mailboxpassword cleartextpassword",
    PROVIDER: "provider anbieter",
    ADDRESS: "address adresse email emailaddress emailadresse emailid mail mailaddress mailadresse mailbox"
    " mailboxaddress postfach postfachadresse smtpaddress smtpadresse primarysmtpaddress primaryaddress primaryemail"
    " primäresmtpadresse primäreadresse primäreemailadresse hauptadresse"
    " mailname mailaccount mailkonto emailaccount emailkonto postfachname mailboxname",
    ADDRESSES: "addresses adressen carries emailaddresses emailadressen mailaddresses mailadressen aliases aliase"
    " aliasadressen emailalias emailaliases emailaliase mailalias mailaliases mailalternateaddress proxyaddresses"
    " smtpaddresses",
    NAME: "displayname anzeigename",
    FALLBACK: "fallback fallbackaccount ersatzkonto",
    DOMAIN: "domain domainname maildomain emaildomain domäne",
}
# They count where no heading above has the meaning; those of a login only where no column has addresses.
_WEAK_HEADINGS: Final = {
    LOGIN: "uid samaccountname userprincipalname upn userid",
    NAME: "name cn fullname vollername",
}
_MEANING_OF: Final = {word: (role, False) for role, words in _HEADINGS.items() for word in words.split()} | {
    word: (role, True) for role, words in _WEAK_HEADINGS.items() for word in words.split()
}
_SHOWN: Final = 20  # headings of unused columns
_HASH: Final = re.compile(
    r"\{(?:S?SHA(?:256|384|512)?|S?MD5|CRYPT|PBKDF2[\w-]*|ARGON2\w*|NTLM|BLF-CRYPT)\}[^\s]{12,}"
    r"|\$(?:[156y]|2[aby])\$[^$\s]{1,40}(?:\$[^$\s]{1,40})?\$?[./A-Za-z0-9]{22,}",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"(?:smtp|mailto):", re.IGNORECASE)
_OTHER_KIND: Final = re.compile(
    r"(?<![\w:])(?:(?:smtp|mailto)|(sip|x400|x500|eum|spo|notes|msmail|ccmail|fax|guid|mrs)):", re.IGNORECASE
)
_PIECE: Final = re.compile(r'(?:"[^"]*"|<[^<>]*>|[^,;|\r\n"<])+|["<]')
_IN_ANGLES: Final = re.compile(r"<\s*([^<>\s]+)\s*>\s*")


@dataclass(frozen=True, slots=True)
class Columns:
    """The meaning of each column; None: not used."""

    headings: tuple[str, ...]
    roles: tuple[str | None, ...]

    def has(self, role: str) -> bool:
        """True if a column has this meaning."""
        return role in self.roles

    @property
    def has_addresses(self) -> bool:
        """True if a column has addresses."""
        return ADDRESS in self.roles or ADDRESSES in self.roles

    def describe(self) -> list[str]:
        """One line for each column that is used, one for all others."""
        lines = [
            _("Column {number}, {heading}: {meaning}").format(
                number=number, heading=heading, meaning=_(_MEANINGS[role])
            )
            for number, (heading, role) in enumerate(zip(self.headings, self.roles, strict=True), 1)
            if role is not None
        ]
        if not self.has(LOGIN):
            lines.append(_("No column has the login: it follows from the address."))
        unused = [heading for heading, role in zip(self.headings, self.roles, strict=True) if role is None and heading]
        if unused:
            more = ", ..." if len(unused) > _SHOWN else ""
            lines.append(_("Not used: {headings}").format(headings=", ".join(unused[:_SHOWN]) + more))
        return lines

    def cells(self, row: list[str]) -> dict[str, str]:
        """The cells of a row by meaning. A password keeps its blanks, other cells lose theirs."""
        named: dict[str, str] = {}
        for role, cell in zip(self.roles, row + [""] * (len(self.roles) - len(row)), strict=False):
            if role == SECRET:
                named[role] = cell
            elif role == ADDRESSES:
                named[role] = f"{named[role]},{cell.strip()}" if named.get(role) else cell.strip()
            elif role is not None:
                named[role] = cell.strip()
        domain = named.pop(DOMAIN, "").lstrip("@")
        if domain and named[ADDRESS] and "@" not in named[ADDRESS]:
            named[ADDRESS] += f"@{domain}"
        return named


def count_known(headings: Iterable[str]) -> int:
    """The number of headings that have a meaning."""
    return sum(_word(heading) in _MEANING_OF for heading in headings)


def is_of_account(heading: str) -> bool:
    """True for the heading of a mailbox or a password."""
    return _MEANING_OF.get(_word(heading), ("", False))[0] in (ADDRESS, ADDRESSES, SECRET)


def is_password(heading: str) -> bool:
    """True for the heading of a password."""
    return _MEANING_OF.get(_word(heading), ("", False))[0] == SECRET


def read_columns(headings: list[str]) -> Columns:
    """The columns of these headings. Raises UsageError if two have the same meaning."""
    found: dict[tuple[str, bool], list[int]] = {}
    for index, heading in enumerate(headings):
        if meaning := _MEANING_OF.get(_word(heading)):
            found.setdefault(meaning, []).append(index)
    roles: list[str | None] = [None] * len(headings)
    for role in _MEANINGS:
        columns = found.get((role, False), [])
        if role == DOMAIN and ((ADDRESS, False) not in found):
            continue
        if not columns and not (role == LOGIN and ((ADDRESS, False) in found or (ADDRESSES, False) in found)):
            columns = found.get((role, True), [])
        if len(columns) > 1 and role != ADDRESSES:
            names = _(" and ").join(
                _("{heading} (column {number})").format(heading=headings[index], number=index + 1) for index in columns
            )
            text = _("Several columns can be the {meaning}: {columns}.")
            raise UsageError(
                text.format(meaning=_(_MEANINGS[role]), columns=names), hint=_("Delete or rename all but one of them.")
            )
        for index in columns:
            roles[index] = role
    return Columns(tuple(headings), tuple(roles))


def is_hash(secret: str) -> bool:
    """True for the hash of a password, as LDAP servers and Unix store it."""
    return _HASH.match(secret) is not None


def plain_login(text: str) -> str:
    """A login without `SMTP:` and without the name before `<address>`."""
    if text.endswith(">") and (inner := _IN_ANGLES.fullmatch(text[max(text.rfind("<"), 0) :])) and "@" in inner[1]:
        text = inner[1]
    prefix = _PREFIX.match(text)
    return text[prefix.end() :] if prefix and "@" in text else text


@dataclass(frozen=True, slots=True)
class CellAddresses:
    """The addresses of a row, the own one first, without duplicates; `name` is that before the first `<address>`."""

    patterns: tuple[AddressPattern, ...]
    name: str

    @property
    def own(self) -> Address | None:
        """The first address that is no whole domain."""
        return next((Address(p.local_part, p.domain) for p in self.patterns if p.local_part is not None), None)


def read_addresses(own: str, others: str) -> CellAddresses:
    """The addresses of the cells `address` and `addresses`. Raises AddressError.

    Read are `anna@a.example b@a.example`, `Anna <anna@a.example>`, `SMTP:anna@a.example;smtp:b@a.example` (capitals
    mark the own address) and `@a.example`. Exchange's addresses of other kinds (`SIP:`, `X500:`) are left out.
    """
    name = ""
    patterns: list[AddressPattern] = []
    primary: list[AddressPattern] = []
    for cell in (own, others):
        for text, before in _mailboxes(_without_other_kinds(cell)):
            prefix = _PREFIX.match(text)
            pattern = parse_pattern(text[prefix.end() :] if prefix else text)
            name = name or before
            (primary if prefix and prefix[0] == "SMTP:" and not own else patterns).append(pattern)
    ordered = dict.fromkeys([*primary, *patterns])
    first = next((p for p in ordered if p.local_part is not None), None)
    return CellAddresses(tuple(dict.fromkeys([*([first] if first else []), *ordered])), name)


def with_login(found: CellAddresses, login: str) -> CellAddresses:
    """The addresses of a row without an own one: the login is it, if it is an address. Raises AddressError."""
    if not login:
        return found
    try:
        own = parse_pattern(login)
    except AddressError:
        if found.patterns:
            raise AddressError(_("{login} is not an address, and none is given").format(login=login)) from None
        raise
    return CellAddresses(tuple(dict.fromkeys([own, *found.patterns])), found.name)


def _mailboxes(text: str) -> Iterable[tuple[str, str]]:
    """Each address and the name before it."""
    waiting: list[str] = []  # parts of an unquoted name with a comma: `Huber, Anna <anna@a.example>`
    for piece in (found[0].strip() for found in _PIECE.finditer(text)):
        if piece.endswith(">") and (inner := _IN_ANGLES.fullmatch(piece[piece.rfind("<") :])):
            name = ", ".join([*waiting, piece[: piece.rfind("<")].strip().strip('"').strip()])
            yield inner[1], name
            waiting = []
        elif piece and "@" not in piece:
            waiting.append(piece)
        else:
            yield from ((word, "") for word in (" ".join(waiting) + " " + piece).split())
            waiting = []
    yield from ((word, "") for part in waiting for word in part.split())


def _without_other_kinds(text: str) -> str:
    """The text without addresses of other kinds than SMTP; each ends at the next prefix."""
    kept: list[str] = []
    begin, dropped = 0, False
    for prefix in _OTHER_KIND.finditer(text):
        if not dropped:
            kept.append(text[begin : prefix.start()])
        begin, dropped = prefix.start(), prefix[1] is not None
    if not dropped:
        kept.append(text[begin:])
    return " ".join(kept)


def _word(heading: str) -> str:
    """A heading for comparison: letters and digits in lower case, without a remark such as `[Required]`."""
    remark = min((at for bracket in "([" if (at := heading.find(bracket)) > 0), default=len(heading))
    return "".join(c for c in heading[:remark].casefold() if c.isalnum())
