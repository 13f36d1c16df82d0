"""Who sends what through which door, and what arrives: one table for every provider a journey puts behind it.

A row is a client, what it says at MAIL and the header it sends; and, for each rule a provider may have, what arrives or
what the client is told. `rule` stands for a provider that refuses the null reverse-path, `rule+null` for one that takes
it; what has a reverse-path needs no entry of its own for that. A row without an entry for a rule is not asked there.

The office: Anna (with the alias info@ and a name for the firm), Bert (with an address of a second domain), a mailbox
for all of laden.test, one for the scanner, one for bounces. What they may send as at the provider is MAILBOXES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from tests.peers.provider import Mailbox
from tests.peers.senderproxy import VaultAccount

ACCOUNTS: Final = (
    VaultAccount("anna@firma.test", "geheim-anna", ("info@firma.test",), "Firma GmbH"),
    VaultAccount("bert@firma.test", "geheim-bert", ("bert@zweit.test",)),
    VaultAccount("post@laden.test", "geheim-laden", ("@laden.test",), "Laden"),
    VaultAccount("scan@firma.test", "geheim-scan"),
    VaultAccount("bounces@firma.test", "geheim-bounces"),
)
ELSEWHERE: Final = VaultAccount("frei@anders.test", "geheim-frei", provider="anders")
MAILBOXES: Final = (
    Mailbox("anna@firma.test", "geheim-anna", ("info@firma.test",)),
    Mailbox("bert@firma.test", "geheim-bert", ("bert@zweit.test",)),
    Mailbox("post@laden.test", "geheim-laden"),
    Mailbox("scan@firma.test", "geheim-scan"),
    Mailbox("bounces@firma.test", "geheim-bounces"),
)


class Setting(Enum):
    """How the office has set up what it does with senders that have no mailbox; the value is TOML."""

    PLAIN = """
[senders.map]
"root@server.local" = "anna@firma.test"
"@web.local" = "post@laden.test"
"@alt.test" = "@firma.test"
"""
    GENEROUS = """
[senders]
foreign_author = "rewrite"
bounce_account = "bounces@firma.test"
remove_bcc = true
"""
    NAMED = """
[senders]
foreign_author = "account post@laden.test"
"""
    DEFAULTED = """
[routing]
default_account = "bert@firma.test"
"""
    DISCARDING = 'on_null_reverse_path = "discard"'
    REJECTING = 'on_null_reverse_path = "reject"'
    ELSEWHERE = 'on_null_reverse_path = "account frei@anders.test"'

    @property
    def is_of_the_provider(self) -> bool:
        """It stands in the provider's section."""
        return self.value.startswith("on_null")


@dataclass(frozen=True)
class Client:
    """A program or a device: at which listener, from which address, how it greets, how it ends its lines."""

    name: str
    listener: str = "office"
    host: str = "127.0.0.1"
    greeting: str = "EHLO exchange.firma.local"
    user: str = ""
    rcpt: str = "<{}>"
    line_end: str = "\r\n"


EXCHANGE: Final = Client("Exchange")
HMAILSERVER: Final = Client("hMailServer", greeting="HELO SERVER01")
POSTFIX: Final = Client("Postfix", greeting="EHLO mail.firma.local")
SCRIPT: Final = Client("a script", greeting="HELO localhost", line_end="\n")
SCANNER: Final = Client("a scanner", "devices", greeting="HELO FAX 2. Stock", rcpt="{}")
TIDY_SCANNER: Final = Client("a scanner that keeps to the rules", "devices", greeting="EHLO [192.168.1.77]")
LOOSE: Final = Client("a device that names itself", "loose", greeting="EHLO KM5C2F9A\x07", rcpt=" {}")
LIMITED: Final = Client("a machine that may send as Bert only", host="127.0.0.3")
TILL: Final = Client("a till that logs in", "till", user="kasse")
TILL_PASSWORD: Final = "geheim-1"  # as short as some devices want it
HOSTS: Final = (LIMITED.host,)


@dataclass(frozen=True)
class Arrives:
    """What the provider got: whose login, and what can be seen of the sender. None: there is no such field.

    `also`: other fields, each with the pattern that all of its value must fit.
    """

    login: str
    path: str
    from_: str
    reply_to: str | None = None
    also: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What the client was answered, and words that stand in it; nothing arrived."""

    code: int
    words: tuple[str, ...]


def told(code: int, *words: str) -> Told:
    """Shorthand."""
    return Told(code, words)


@dataclass(frozen=True)
class Case:
    """One row."""

    name: str
    client: Client
    mail: str  # what follows `MAIL FROM:`
    header: str | bytes  # Date, Message-ID and To are added where it has none of them and is not `bare`
    ends: Mapping[str, Arrives | Told]
    setting: Setting = Setting.PLAIN
    bare: bool = False
    body: str = "Guten Tag\n.\n..mit Punkten\n"

    def end_under(self, rule: str, *, null_taken: bool) -> Arrives | Told | None:
        """What is expected of a provider with this rule; None where the row is not asked there."""
        at_null = null_taken and (self.mail.startswith("<>") or f"{rule}+null" in self.ends)
        return self.ends.get(f"{rule}+null" if at_null else rule)


def everywhere(end: Arrives | Told) -> dict[str, Arrives | Told]:
    """The same whatever the provider's rule is."""
    return {"domain": end, "address": end, "any": end}


def whatever(end: Arrives | Told) -> Mapping[str, Arrives | Told]:
    """The same whatever the provider takes."""
    return everywhere(end) | {f"{rule}+null": end for rule in everywhere(end)}


def by_rule(domain: Arrives | Told, address: Arrives | Told) -> dict[str, Arrives | Told]:
    """One end for each of the two rules; a provider that takes any sender has no say in it."""
    return {"domain": domain, "address": address}


def _as(login: str, from_: str | None = None, path: str | None = None, **also: str | None) -> Arrives:
    """It leaves as it came."""
    own = from_ or login
    address = own.rpartition("<")[2].rstrip(">")
    return Arrives(
        login, address if path is None else path, own, also={k.replace("_", "-"): v for k, v in also.items()}
    )


ANNA, BERT, LADEN, SCAN, BOUNCES = (account.login for account in ACCOUNTS)
_MARKED: Final = {
    "Auto-Submitted": "auto-replied",
    "X-Auto-Response-Suppress": "All",
    "X-Senderproxy-Loop": r"relay\.office\.test",
}
_UNMARKED: Final = {"X-Senderproxy-Loop": None}
_DATE: Final = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"
NO_ACCOUNT: Final = "No account here may send as"

OWN: Final = (
    Case("own address", EXCHANGE, f"<{ANNA}>", f"From: Anna Berg <{ANNA}>", everywhere(_as(ANNA, f"Anna Berg <{ANNA}>"))),
    Case(
        "own address in capitals", EXCHANGE, "<Anna@Firma.Test>", "From: Anna@FIRMA.test",
        everywhere(Arrives(ANNA, "Anna@firma.test", "Anna@FIRMA.test")),
    ),
    Case("the colleague's mail on the colleague's login", EXCHANGE, f"<{BERT}>", f"From: {BERT}", everywhere(_as(BERT))),
    Case("parameters that Exchange sends", EXCHANGE, f"<{ANNA}> SIZE=900 AUTH=<> BODY=8BITMIME", f"From: {ANNA}",
         everywhere(_as(ANNA))),
    Case("parameters that Postfix sends", POSTFIX, f"<{ANNA}> RET=HDRS ENVID=abc", f"From: {ANNA}",
         everywhere(_as(ANNA))),
    Case("hMailServer: HELO and nothing more", HMAILSERVER, f"<{ANNA}>", f"From: {ANNA}", everywhere(_as(ANNA))),
    Case("alias", EXCHANGE, "<info@firma.test>", "From: Info <info@firma.test>",
         everywhere(_as(ANNA, "Info <info@firma.test>"))),
    Case(
        "sub-address", EXCHANGE, "<anna+news@firma.test>", "From: Anna <anna+news@firma.test>",
        by_rule(
            _as(ANNA, "Anna <anna+news@firma.test>"),
            Arrives(ANNA, ANNA, f"Anna <{ANNA}>", "Anna <anna+news@firma.test>"),
        ),
    ),
    Case(
        "sub-address of an alias", EXCHANGE, "<info+x@firma.test>", "From: info+x@firma.test",
        by_rule(
            _as(ANNA, "info+x@firma.test"),
            Arrives(ANNA, "info@firma.test", "info+x <info@firma.test>", "info+x@firma.test"),
        ),
    ),
    Case(
        "catch-all", EXCHANGE, "<shop@laden.test>", 'From: "Shop, Laden" <shop@laden.test>',
        by_rule(
            _as(LADEN, '"Shop, Laden" <shop@laden.test>'),
            Arrives(LADEN, LADEN, f'"Shop, Laden" <{LADEN}>', '"Shop, Laden" <shop@laden.test>'),
        ),
    ),
    Case(
        "catch-all without a name", EXCHANGE, "<shop@laden.test>", "From: shop@laden.test",
        by_rule(_as(LADEN, "shop@laden.test"), Arrives(LADEN, LADEN, f"shop <{LADEN}>", "shop@laden.test")),
    ),
    Case(
        "catch-all with a Reply-To of its own", EXCHANGE, "<shop@laden.test>",
        "From: shop@laden.test\nReply-To: team@laden.test",
        by_rule(
            Arrives(LADEN, "shop@laden.test", "shop@laden.test", "team@laden.test"),
            Arrives(LADEN, LADEN, f"shop <{LADEN}>", "team@laden.test"),
        ),
    ),
    Case(
        "catch-all with an umlaut in the name", EXCHANGE, "<shop@laden.test>",
        "From: =?utf-8?q?M=C3=BCller?= <shop@laden.test>",
        by_rule(
            _as(LADEN, "=?utf-8?q?M=C3=BCller?= <shop@laden.test>"),
            Arrives(LADEN, LADEN, f"=?utf-8?b?TcO8bGxlcg==?= <{LADEN}>", "=?utf-8?b?TcO8bGxlcg==?= <shop@laden.test>"),
        ),
    ),
    Case(
        "second domain of a mailbox", EXCHANGE, "<bert@zweit.test>", "From: Bert <bert@zweit.test>",
        by_rule(
            Arrives(BERT, BERT, f"Bert <{BERT}>", "Bert <bert@zweit.test>"),
            _as(BERT, "Bert <bert@zweit.test>"),  # an alias at the provider
        ),
    ),
    Case(
        "somebody without a mailbox", EXCHANGE, "<nobody@firma.test>", "From: nobody@firma.test",
        everywhere(told(550, NO_ACCOUNT, "senderproxy account add nobody@firma.test")),
    ),
    Case("send on behalf", EXCHANGE, f"<{ANNA}>", f"From: Bert <{BERT}>\nSender: {ANNA}",
         by_rule(_as(BERT, f"Bert <{BERT}>", ANNA, Sender=ANNA), _as(BERT, f"Bert <{BERT}>", BERT))),
    Case(
        "send on behalf of a group without a mailbox", EXCHANGE, f"<{ANNA}>", f"From: team@firma.test\nSender: {ANNA}",
        by_rule(_as(ANNA, "team@firma.test", ANNA), told(550, "team@firma.test", f"account edit {ANNA} --also")),
    ),
    Case(
        "two authors", EXCHANGE, f"<{ANNA}>", f"From: {ANNA}, {BERT}\nSender: {BERT}",
        by_rule(Arrives(ANNA, ANNA, f"{ANNA}, {BERT}"), told(550, f"names {BERT}, which is not an address of account {ANNA}")),
    ),
    Case("a default account", EXCHANGE, "<nobody@firma.test>", "From: nobody@firma.test",
         by_rule(_as(BERT, "nobody@firma.test"), told(550, "nobody@firma.test")), Setting.DEFAULTED),
    Case("anything goes where the provider takes anything", EXCHANGE, "<alice@fern.test>", "From: alice@fern.test",
         {"any": _as(BERT, "alice@fern.test")}, Setting.DEFAULTED),
    Case("two From fields", EXCHANGE, f"<{ANNA}>", f"From: {ANNA}\nFrom: {BERT}",
         everywhere(told(550, "Cannot read the author from the From field"))),
    Case("a From that can be read in two ways", EXCHANGE, f"<{ANNA}>", f"From: {ANNA} <{BERT}>",
         everywhere(told(550, "Cannot read the author from the From field"))),
    Case("no From at all", POSTFIX, f"<{ANNA}>", "Subject: cron", everywhere(_as(ANNA))),
    Case("reverse-path of a list, From ours", POSTFIX, "<owner-list@listen.test>", f"From: {BERT}",
         by_rule(_as(BERT, path=BERT), _as(BERT, path=BERT))),
)  # fmt: skip

WITHOUT_A_WAY_BACK: Final = (
    Case(
        "out-of-office from Exchange", EXCHANGE, "<>", f"From: Bert <{BERT}>\nSubject: Automatic reply",
        {
            **by_rule(*[_as(BERT, f"Bert <{BERT}>", BERT, **_MARKED)] * 2),
            "domain+null": _as(BERT, f"Bert <{BERT}>", "", **_UNMARKED),
            "address+null": _as(BERT, f"Bert <{BERT}>", "", **_UNMARKED),
            "any+null": _as(BERT, f"Bert <{BERT}>", "", **_UNMARKED),
        },
    ),
    Case(
        "out-of-office that says so itself", EXCHANGE, "<> SIZE=500",
        f"From: {BERT}\nAuto-Submitted: auto-replied (vacation)\nX-Auto-Response-Suppress: DR, OOF",
        by_rule(
            *[
                _as(BERT, path=BERT, Auto_Submitted=r"auto-replied \(vacation\)", X_Auto_Response_Suppress="DR, OOF")
            ] * 2
        ) | {"domain+null": _as(BERT, path=""), "address+null": _as(BERT, path="")},
    ),
    Case(
        "out-of-office of a catch-all address", EXCHANGE, "<>", "From: shop@laden.test",
        {
            "domain": _as(LADEN, "shop@laden.test", **_MARKED),
            "address": Arrives(LADEN, LADEN, f"shop <{LADEN}>", "shop@laden.test", _MARKED),
            "domain+null": _as(LADEN, "shop@laden.test", "", **_UNMARKED),
            "address+null": Arrives(LADEN, "", f"shop <{LADEN}>", "shop@laden.test", _UNMARKED),
        },
    ),
    Case("out-of-office where bounces have a mailbox", EXCHANGE, "<>", f"From: {BERT}",
         {"domain": _as(BERT, path=BOUNCES, **_MARKED), "address": _as(BERT, path=BERT, **_MARKED)}, Setting.GENEROUS),
    Case("vacation from hMailServer", HMAILSERVER, f"<{BERT}>", f"From: {BERT}\nAuto-Submitted: auto-replied",
         everywhere(_as(BERT, **_UNMARKED))),
    Case("read receipt", EXCHANGE, "<>", f"From: {ANNA}\nSubject: Gelesen",
         {"domain": _as(ANNA, **_MARKED), "address": _as(ANNA, **_MARKED), "any+null": _as(ANNA, path="")}),
    Case("bounce from Exchange, and nobody has postmaster@", EXCHANGE, "<>", "From: postmaster@firma.test",
         whatever(told(550, "bounce_account under [senders]", "account add postmaster@firma.test"))),
    Case(
        "bounce from Exchange where bounces have a mailbox", EXCHANGE, "<>", "From: postmaster@firma.test",
        {
            "domain": _as(BOUNCES, "postmaster@firma.test", BOUNCES, **_MARKED),
            "address": Arrives(BOUNCES, BOUNCES, f'"postmaster via firma.test" <{BOUNCES}>', "postmaster@firma.test", _MARKED),
            "domain+null": _as(BOUNCES, "postmaster@firma.test", ""),
        },
        Setting.GENEROUS,
    ),
    Case(
        "bounce under the server's own name", EXCHANGE, "<>", "From: Mail System <MAILER-DAEMON@srv1.firma.local>",
        by_rule(
            *[Arrives(BOUNCES, BOUNCES, f'"Mail System via firma.test" <{BOUNCES}>',
                      "Mail System <MAILER-DAEMON@srv1.firma.local>", _MARKED)] * 2
        ) | {"address+null": Arrives(BOUNCES, "", f'"Mail System via firma.test" <{BOUNCES}>',
                                     "Mail System <MAILER-DAEMON@srv1.firma.local>")},
        Setting.GENEROUS,
    ),
    Case(
        "bounce from hMailServer in a catch-all domain", HMAILSERVER, "<>", "From: mailer-daemon@laden.test",
        {
            "domain": _as(LADEN, "mailer-daemon@laden.test", **_MARKED),
            "address": Arrives(LADEN, LADEN, f"mailer-daemon <{LADEN}>", "mailer-daemon@laden.test", _MARKED),
        },
    ),
    Case(
        "journal report", EXCHANGE, "<>", "From: Microsoft Exchange <MicrosoftExchange329e71ec88ae4615@laden.test>",
        {"domain": _as(LADEN, "Microsoft Exchange <MicrosoftExchange329e71ec88ae4615@laden.test>")},
    ),
    Case("discarded", EXCHANGE, "<>", f"From: {BERT}",
         by_rule(*[told(250, "Discarded", "does not accept a null reverse-path")] * 2) | {
             "domain+null": _as(BERT, path=""), "address+null": _as(BERT, path="")},
         Setting.DISCARDING),
    Case("rejected", EXCHANGE, "<>", f"From: {BERT}",
         by_rule(*[told(550, "does not accept a null reverse-path", 'on_null_reverse_path = "rewrite"')] * 2) | {
             "domain+null": _as(BERT, path=""), "address+null": _as(BERT, path="")},
         Setting.REJECTING),
)  # fmt: skip

# Carried by another account, at a provider that takes any sender and the null reverse-path.
AT_THE_OTHER: Final = (
    Case("carried elsewhere", EXCHANGE, "<>", f"From: {BERT}",
         by_rule(*[_as(ELSEWHERE.login, BERT, "", **_UNMARKED)] * 2), Setting.ELSEWHERE),
    Case("what has a way back stays here", EXCHANGE, f"<{BERT}>", f"From: {BERT}",
         by_rule(*[_as(BERT)] * 2), Setting.ELSEWHERE),
)  # fmt: skip

_ALICE: Final = "From: Alice Example <alice@fern.test>"
_VIA_FIRMA: Final = Arrives(
    ANNA, ANNA, f"Alice Example via Firma GmbH <{ANNA}>", "Alice Example <alice@fern.test>",
    {"X-Original-From": "Alice Example <alice@fern.test>"},
)  # fmt: skip

_ARRIVED: Final = "Received: from mx.fern.test by mail.firma.test; Sun, 29 Nov 2026 10:00:00 +0100"

FOREIGN: Final = (
    Case("redirect without a trace of us", EXCHANGE, "<alice@fern.test>", _ALICE,
         everywhere(told(550, NO_ACCOUNT, "alice@fern.test"))),
    Case("redirect as Exchange does it", EXCHANGE, "<alice@fern.test>", f"{_ALICE}\nResent-From: {ANNA}",
         by_rule(*[told(550, "names alice@fern.test", 'foreign_author = "rewrite" under [senders]')] * 2)),
    Case("redirect as Exchange does it, let through", EXCHANGE, "<alice@fern.test>", f"{_ALICE}\nResent-From: {ANNA}",
         by_rule(_VIA_FIRMA, _VIA_FIRMA), Setting.GENEROUS),
    Case("redirect without a trace of us, let through", EXCHANGE, "<alice@fern.test>", _ALICE,
         everywhere(told(550, NO_ACCOUNT, "alice@fern.test")), Setting.GENEROUS),
    Case("redirect of a Sieve rule, let through", POSTFIX, "<alice@fern.test>",
         f"X-Sieve-Redirected-From: {ANNA}\n{_ARRIVED}\nDKIM-Signature: v=1; d=fern.test; b=x\n{_ALICE}",
         by_rule(*[replace(_VIA_FIRMA, also={**_VIA_FIRMA.also, "DKIM-Signature": None})] * 2), Setting.GENEROUS),
    Case("redirect of an alias, let through", POSTFIX, "<alice@fern.test>",
         f"Delivered-To: info@firma.test\n{_ARRIVED}\n{_ALICE}",
         by_rule(*[replace(_VIA_FIRMA, path="info@firma.test")] * 2), Setting.GENEROUS),
    Case("a stranger's Resent-From and Delivered-To", POSTFIX, "<alice@fern.test>",
         f"{_ARRIVED}\nResent-From: {BERT}\nDelivered-To: {BERT}\nSender: {BERT}\n{_ALICE}",
         everywhere(told(550, NO_ACCOUNT, "alice@fern.test", "foreign_account under [senders]")), Setting.GENEROUS),
    Case("a stranger's Resent-From below our own", POSTFIX, "<alice@fern.test>",
         f"Resent-From: {ANNA}\n{_ARRIVED}\nResent-From: {BERT}\n{_ALICE}",
         by_rule(_VIA_FIRMA, _VIA_FIRMA), Setting.GENEROUS),
    Case("forward with our reverse-path", HMAILSERVER, f"<{ANNA}>", _ALICE,
         by_rule(*[told(550, "names alice@fern.test")] * 2)),
    Case("forward with our reverse-path, let through", HMAILSERVER, f"<{ANNA}>", _ALICE,
         by_rule(_VIA_FIRMA, _VIA_FIRMA), Setting.GENEROUS),
    Case("forward with a Reply-To, let through", HMAILSERVER, f"<{ANNA}>", f"{_ALICE}\nReply-To: list@fern.test",
         by_rule(*[Arrives(ANNA, ANNA, f"Alice Example via Firma GmbH <{ANNA}>", "list@fern.test")] * 2),
         Setting.GENEROUS),
    Case("redirect through a named account", EXCHANGE, "<alice@fern.test>", _ALICE,
         by_rule(*[Arrives(LADEN, LADEN, f"Alice Example via Laden <{LADEN}>", "Alice Example <alice@fern.test>")] * 2),
         Setting.NAMED),
    Case("our own mail beside a named account", EXCHANGE, f"<{BERT}>", f"From: {BERT}",
         everywhere(_as(BERT)), Setting.NAMED),
    Case("cron of a server", POSTFIX, "<root@server.local>", "From: Cron Daemon <root@server.local>",
         everywhere(Arrives(ANNA, ANNA, f"Cron Daemon <{ANNA}>"))),
    Case("a web server's form", POSTFIX, "<www-data@web.local>", "From: www-data@web.local\nSender: x@web.local",
         everywhere(Arrives(LADEN, LADEN, LADEN, also={"Sender": LADEN}))),
    Case("the firm's old domain", EXCHANGE, "<bert@alt.test>", "From: Bert <bert@alt.test>",
         everywhere(_as(BERT, f"Bert <{BERT}>"))),
    Case("the firm's old domain, and nobody has that mailbox", EXCHANGE, "<carla@alt.test>", "From: carla@alt.test",
         everywhere(told(550, NO_ACCOUNT, "carla@firma.test"))),
    Case("a server's name that is not in the map", POSTFIX, "<root@srv2.local>", "From: root@srv2.local",
         everywhere(told(550, "map root@srv2.local to an own address under [senders.map]"))),
)  # fmt: skip

DEVICES: Final = (
    Case("a scanner without brackets, without Date", SCANNER, " copier@printer.local", "Subject: Scan",
         everywhere(_as(SCAN, Date=_DATE, Message_ID=r"<.+@relay\.office\.test>")), bare=True),
    Case("a scanner that names its user", SCANNER, f"{ANNA}", f"From: Anna <{ANNA}>",
         everywhere(Arrives(SCAN, SCAN, f"Anna <{SCAN}>", f"Anna <{ANNA}>"))),
    Case("a scanner that names its user, and answers to somebody else", SCANNER, f"{ANNA}",
         f"From: {ANNA}\nReply-To: {BERT}", everywhere(Arrives(SCAN, SCAN, SCAN, BERT))),
    Case("a scanner with an @ in the name", SCANNER, f"<{SCAN}>", f"From: {ANNA} <{ANNA}>",
         everywhere(Arrives(SCAN, SCAN, f'"{ANNA}" <{SCAN}>', f'"{ANNA}" <{ANNA}>'))),
    Case("a scanner with an umlaut in code page 1252", SCANNER, f"<{SCAN}>",
         f"From: B\xfcro <{SCAN}>\nSubject: Pr\xfcfung".encode("cp1252"),
         everywhere(_as(SCAN, f"=?utf-8?b?QsO8cm8=?= <{SCAN}>", Subject=r"=\?utf-8\?[bq]\?.+\?="))),
    Case("a scanner that makes up its sender", SCANNER, "<>", "From: scan@192.168.1.77",
         {"domain": _as(SCAN, path=SCAN), "address": _as(SCAN, path=SCAN), "domain+null": _as(SCAN, path=""),
          "address+null": _as(SCAN, path="")}),
    Case("a scanner with nonsense for a sender", SCANNER, " MFP-3", "From: MFP-3", everywhere(_as(SCAN, f"MFP-3 <{SCAN}>"))),
    Case("a scanner that keeps to the rules", TIDY_SCANNER, f"<{SCAN}>", f"From: Scanner <{SCAN}>",
         everywhere(_as(SCAN, f"Scanner <{SCAN}>"))),
    Case("a device that names itself", LOOSE, f" {BERT} SIZE=100", f"From: {BERT} <{BERT}>",
         everywhere(_as(BERT, f'"{BERT}" <{BERT}>'))),
    Case("a device that has half a sender", LOOSE, " bert", f"From: {BERT}",
         everywhere(told(501, "The sender address bert has no @ and no domain", "mail settings of the device"))),
    Case("the same in the office", EXCHANGE, f" {BERT}", f"From: {BERT}",
         everywhere(told(501, "syntax: MAIL FROM:<address>"))),
    Case("an address that is none", EXCHANGE, "<bert@@firma.test>", f"From: {BERT}", everywhere(told(501, "bert"))),
    Case("a parameter that is none", EXCHANGE, f"<{BERT}> BODY=9BIT", f"From: {BERT}", everywhere(told(501, "BODY"))),
)  # fmt: skip

LIMITS: Final = (
    Case("a limited machine as itself", LIMITED, f"<{BERT}>", f"From: {BERT}", everywhere(_as(BERT))),
    Case("a limited machine's out-of-office", LIMITED, "<>", f"From: {BERT}",
         {"domain": _as(BERT, path=BERT), "address": _as(BERT, path=BERT)}),
    Case("a limited machine as somebody else", LIMITED, f"<{ANNA}>", f"From: {ANNA}",
         everywhere(told(550, "127.0.0.3 may not send as anna@firma.test", "[[clients]]"))),
    Case("a limited machine with another From", LIMITED, f"<{BERT}>", f"From: {ANNA}",
         everywhere(told(550, f"may not send as {ANNA}"))),
    Case("a limited machine with another reverse-path", LIMITED, f"<{ANNA}>", f"From: {BERT}",
         everywhere(told(550, f"may not send as {ANNA}"))),
    Case("a limited machine under a name that stands for Anna", LIMITED, "<root@server.local>",
         "From: root@server.local", everywhere(told(550, f"may not send as {ANNA}"))),
    Case("a limited machine under a name that stands for Bert", LIMITED, "<bert@alt.test>", "From: bert@alt.test",
         everywhere(_as(BERT))),
    Case("a till that logs in", TILL, "<kasse@laden.test>", "From: kasse@laden.test",
         by_rule(_as(LADEN, "kasse@laden.test"), Arrives(LADEN, LADEN, f"kasse <{LADEN}>", "kasse@laden.test"))),
    Case("a till that would be Anna", TILL, f"<{ANNA}>", f"From: {ANNA}",
         everywhere(told(550, f"kasse at 127.0.0.1 may not send as {ANNA}"))),
)  # fmt: skip

REPAIRS: Final = (
    Case("nothing but a sender", SCRIPT, f"<{ANNA}>", f"From: {ANNA}",
         everywhere(_as(ANNA, Date=_DATE, Message_ID="<.+>")), bare=True),
    Case("a German date", SCRIPT, f"<{ANNA}>", f"From: {ANNA}\nDate: Mi, 25. Nov 2026 08:15:00 +0100",
         everywhere(_as(ANNA, Date=_DATE))),
    Case("an empty To", EXCHANGE, f"<{ANNA}>", f"From: {ANNA}\nTo:", everywhere(_as(ANNA, To="undisclosed-recipients:;"))),
    Case("two subjects and two To", SCRIPT, f"<{ANNA}>",
         f"From: {ANNA}\nTo: a@k.test\nTo: b@k.test\nSubject: one\nSubject: two",
         everywhere(_as(ANNA, To="a@k.test, b@k.test", Subject="one"))),
    Case("a subject in UTF-8", SCRIPT, f"<{ANNA}>", f"From: {ANNA}\nSubject: Grüße".encode(),
         everywhere(_as(ANNA, Subject=r"=\?utf-8\?[bq]\?.+\?="))),
    Case("Bcc stays", SCRIPT, f"<{ANNA}>", f"From: {ANNA}\nBcc: geheim@k.test",
         everywhere(_as(ANNA, Bcc="geheim@k.test"))),
    Case("Bcc goes where it shall", SCRIPT, f"<{ANNA}>", f"From: {ANNA}\nBcc: geheim@k.test",
         everywhere(_as(ANNA, Bcc=None)), Setting.GENEROUS),
    Case("an empty Cc", SCRIPT, f"<{ANNA}>", f"From: {ANNA}\nCc:", everywhere(_as(ANNA, Cc=None))),
    Case("a paragraph in one line", SCRIPT, f"<{ANNA}>", f"From: {ANNA}", everywhere(_as(ANNA)),
         body="Grundschuld " * 300 + "\n"),
)  # fmt: skip

CASES: Final = (*OWN, *WITHOUT_A_WAY_BACK, *FOREIGN, *DEVICES, *LIMITS, *REPAIRS)
