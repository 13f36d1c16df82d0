"""The fallback of an account in the commands: `account`, `explain`, `check`, `status`."""

from typing import Any

import pytest

from senderproxy.cli.check_fallbacks import check_dns_of_fallbacks, check_fallbacks
from senderproxy.cli.findings import Finding, Level
from senderproxy.config.load import load_config
from senderproxy.mail.address import parse_address, parse_pattern
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from tests.senderproxy.cli.conftest import Office, service_status
from tests.senderproxy.domain_records.test_judgements import GOOD, Records

RULES = """
[providers.any]
host = "127.0.0.1"
port = 465
security = "tls"
sender_rule = "any"
from_rule = "any"
[providers.strict]
host = "127.0.0.1"
port = 465
security = "tls"
sender_rule = "address"
from_rule = "address"
"""


@pytest.fixture
def staffed(office: Office) -> Office:
    office.write_config(RULES)
    office.add("anna@firma.example", "--id", "anna", "--also", "info@firma.example")
    office.add("reserve@other.example", "--id", "reserve", provider="any")
    office.add("post@strict.example", "--id", "strict", provider="strict")
    return office


def shown(office: Office, account: str = "anna") -> tuple[Any, Any]:
    entry = office.type("account", "show", account, "--json").json
    return entry["fallback"], entry["fallback_rewrites"]


# ---- account ----


def test_a_fallback_is_set_shown_and_removed(staffed: Office) -> None:
    ended = staffed.type("account", "edit", "anna", "--fallback", "reserve@other.example")
    assert ended.code == 0, ended.err
    assert "While it cannot send, account reserve sends its mail." in ended.out
    assert shown(staffed) == ("reserve", False)
    assert "\nfallback           reserve\n" in staffed.type("account", "show", "anna").out
    listed = staffed.type("account", "list").out
    assert "fallback" in listed.splitlines()[0]
    assert listed.splitlines()[1].split()[-1] == "reserve"
    assert [one["fallback"] for one in staffed.type("account", "list", "--json").json] == ["reserve", None, None]
    assert staffed.type("account", "edit", "anna", "--no-fallback").code == 0
    assert shown(staffed) == (None, False)
    assert "fallback" not in staffed.type("account", "list").out


def test_an_account_is_added_with_a_fallback(staffed: Office) -> None:
    staffed.add("bert@firma.example", "--id", "bert", "--fallback", "reserve", "--fallback-rewrites")
    assert shown(staffed, "bert") == ("reserve", True)
    assert "fallback           reserve, may replace the sender" in staffed.type("account", "show", "bert").out


def test_a_fallback_that_has_to_replace_the_sender_says_so(staffed: Office) -> None:
    ended = staffed.type("account", "edit", "anna", "--fallback", "strict")
    assert "Mail of anna@firma.example, info@firma.example waits all the same, because strict does not" in ended.out
    assert "with --fallback-rewrites it is sent as post@strict.example" in ended.out
    ended = staffed.type("account", "edit", "anna", "--fallback-rewrites")
    assert shown(staffed) == ("strict", True)
    assert "then has the sender post@strict.example" in ended.out
    staffed.type("account", "edit", "anna", "--fallback", "reserve")
    assert shown(staffed) == ("reserve", False)  # the permission was for the other one


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("edit", "anna", "--fallback", "anna"), 64, "Account anna cannot be its own fallback."),
        (("edit", "anna", "--fallback", "niemand"), 64, "There is no account niemand."),
        (("edit", "anna", "--fallback", "info@firma.example"), 64, "There is no account info@firma.example."),
        (("edit", "anna", "--fallback-rewrites"), 64, "Account anna has no fallback."),
        (("edit", "anna", "--fallback", "reserve", "--no-fallback"), 64, "exclude each other"),
        (("edit", "reserve", "--fallback", "anna"), 64, "cannot be the fallback of reserve: it has a fallback itself, strict"),
        (("edit", "strict", "--fallback", "reserve"), 64, "Account strict cannot be the fallback of anna: it has a fallback itself, reserve"),
        (("remove", "strict", "--yes"), 64, "Account strict is the fallback of anna."),
    ],
)  # fmt: skip
def test_loops_chains_and_unknown_accounts_are_refused(
    staffed: Office, words: tuple[str, ...], code: int, said: str
) -> None:
    if words[1] != "anna":
        staffed.type("account", "edit", "anna", "--fallback", "strict")
    before = staffed.type("account", "list", "--json").json
    ended = staffed.type("account", *words)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert "To fix:" in ended.err or "exclude" in ended.err
    assert staffed.type("account", "list", "--json").json == before


def test_a_refused_addition_asks_for_no_password(staffed: Office) -> None:
    staffed.type("account", "edit", "anna", "--fallback", "reserve")
    options = ("--provider", "ionos", "--password-stdin", "--fallback", "anna")
    ended = staffed.type("account", "add", "bert@firma.example", *options, stdin="geheim-x\n")
    assert ended.code == 64
    assert "it has a fallback itself" in ended.err
    assert staffed.simulator.logins() == []


def test_a_table_of_accounts_changes_no_fallback(staffed: Office) -> None:
    staffed.type("account", "edit", "anna", "--fallback", "reserve", "--fallback-rewrites")
    table = staffed.folder / "table.csv"
    table.write_text("id;login;display name\nanna;anna@firma.example;Anna\n")
    ended = staffed.type("account", "import", str(table), "--replace")
    assert ended.code == 0, ended.out + ended.err
    assert shown(staffed) == ("reserve", True)
    assert staffed.type("account", "export", "--json").json[0]["fallback"] == "reserve"


def imported(office: Office, table: str, *words: str) -> Any:
    path = office.folder / "table.csv"
    path.write_text(table)
    return office.type("account", "import", str(path), *words, "--json")


def test_a_table_has_a_column_for_fallbacks_and_an_export_can_be_imported(staffed: Office) -> None:
    ended = imported(staffed, "id;login;fallback\nanna;anna@firma.example;reserve@other.example\n", "--replace")
    assert ended.code == 0, ended.out
    assert shown(staffed) == ("reserve", False)
    exported = staffed.type("account", "export").out
    assert exported.splitlines()[0].endswith(";fallback")
    assert exported.splitlines()[1].endswith(";reserve")
    staffed.type("account", "edit", "anna", "--no-fallback")
    rows = [line.split(";") for line in exported.splitlines()]
    table = "\n".join(";".join(cell for number, cell in enumerate(row) if number != 2) for row in rows) + "\n"
    assert imported(staffed, table, "--replace").code == 0
    assert shown(staffed) == ("reserve", False)
    cleared = imported(staffed, "id;login;fallback\nanna;anna@firma.example;\n", "--replace")
    assert cleared.code == 0
    assert "fallback - instead of reserve" in cleared.out
    assert shown(staffed) == (None, False)


def test_a_fallback_may_be_another_row_of_the_table(office: Office) -> None:
    table = "login;password;provider;fallback\nanna@firma.example;geheim-a;ionos;bert@firma.example\nbert@firma.example;geheim-b;ionos;\n"
    assert imported(office, table).code == 0
    assert shown(office, "anna@firma.example") == ("bert@firma.example", False)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("anna;anna@firma.example;anna\n", "cannot be its own fallback"),
        ("anna;anna@firma.example;niemand\n", "There is no account niemand"),
        ("anna;anna@firma.example;reserve\nreserve;reserve@other.example;strict\n", "it has a fallback itself, strict"),
        ("strict;post@strict.example;reserve\n", "Account strict cannot be the fallback of anna"),
    ],
)
def test_an_invalid_fallback_in_a_table_imports_nothing(staffed: Office, rows: str, words: str) -> None:
    staffed.type("account", "edit", "anna", "--fallback", "strict")
    before = staffed.type("account", "list", "--json").json
    ended = imported(staffed, "id;login;fallback\n" + rows, "--replace")
    assert ended.code == 1
    assert any(words in row["words"] for row in ended.json)
    assert staffed.type("account", "list", "--json").json == before


# ---- explain ----


def test_explain_says_whether_the_fallback_may_send_the_message(staffed: Office) -> None:
    assert "fallback" not in staffed.type("explain", "anna@firma.example").out
    assert staffed.type("explain", "anna@firma.example", "--json").json["fallback"] is None
    staffed.type("account", "edit", "anna", "--fallback", "reserve")
    out = staffed.type("explain", "anna@firma.example").out
    assert "fallback       reserve, logs in as reserve@other.example, while anna cannot send\n" in out
    entry = staffed.type("explain", "anna@firma.example", "--json").json["fallback"]
    assert (entry["may_send"], entry["sends_now"], entry["reverse_path"]) == (True, False, "anna@firma.example")

    staffed.type("account", "edit", "anna", "--fallback", "strict")
    out = staffed.type("explain", "anna@firma.example").out
    assert "strict may not send this message: strict requires a change of" in " ".join(out.split())
    staffed.type("account", "edit", "anna", "--fallback", "strict", "--fallback-rewrites")
    out = staffed.type("explain", "anna@firma.example").out
    assert "then reverse-path: post@strict.example" in out
    assert "then From: anna <post@strict.example>" in out
    entry = staffed.type("explain", "anna@firma.example", "--json").json["fallback"]
    assert [change["what"] for change in entry["changes"]] == ["reverse-path", "From"]


def test_explain_says_that_the_fallback_sends_now(staffed: Office) -> None:
    staffed.type("account", "edit", "anna", "--fallback", "reserve")
    status = {"account": "anna", "state": "suspended", "since": None, "until": None, "reply": "535 no", "words": "x",
              "hint": "", "messages_left": None, "recipients_left": None, "sends_through": "reserve"}  # fmt: skip
    with service_status(staffed, automatic={"limit": 2, "sent": [], "limited": []}, accounts=[status]):
        out = staffed.type("explain", "anna@firma.example").out
        assert "fallback       reserve, logs in as reserve@other.example; it sends the message now\n" in out
        assert staffed.type("explain", "anna@firma.example", "--json").json["fallback"]["sends_now"]


# ---- check ----


def directory_of(**fallback: Any) -> AccountDirectory:
    def account(id_: str, address: str, provider: str, **more: Any) -> Account:
        return Account(id_, address, provider, parse_address(address), (parse_pattern(address),), **more)

    return AccountDirectory(
        [
            account("anna", "anna@firma.example", "ionos-de", **fallback),
            account("reserve", "reserve@firma.example", "ionos-uk"),
            account("google", "reserve@google.example", "gmail"),
            account("hoster", "post@hoster.example", "any"),
            account("strict", "post@strict.example", "strict"),
        ]
    )


@pytest.mark.parametrize(
    ("fallback", "level", "words"),
    [
        ({"fallback": "reserve"}, Level.OK, "account reserve at ionos-uk may use the same senders"),
        ({"fallback": "hoster"}, Level.OK, "account hoster at any may use the same senders"),
        ({"fallback": "strict"}, Level.WRONG, "mail of anna@firma.example waits, because strict does not permit"),
        (
            {"fallback": "strict", "fallback_rewrites": True},
            Level.ADVICE,
            "mail of anna@firma.example is sent as post@strict.example",
        ),
    ],
)
def test_check_finds_a_fallback_that_cannot_help(
    office: Office, fallback: dict[str, Any], level: Level, words: str
) -> None:
    office.write_config(RULES)
    [found] = check_fallbacks(load_config(office.config), directory_of(**fallback))
    assert (found.level, found.subject) == (level, "fallback of account anna")
    assert words in found.message
    assert (level is Level.WRONG) == ("--fallback-rewrites" in found.hint)


def dns(office: Office, changes: dict[tuple[str, str], list[str]], known: Any = (), **fallback: Any) -> list[Finding]:
    office.write_config(RULES)
    records = Records({**GOOD, **changes})
    config = load_config(office.config)
    found = check_dns_of_fallbacks(config, directory_of(**fallback), known, lambda: records.query, lambda _domain: None)
    return list(found)


def test_check_looks_at_spf_dkim_and_dmarc_of_the_second_provider(office: Office) -> None:
    rules = [("firma.example", "TXT"), ("_dmarc.firma.example", "TXT")]
    assert [one.level for one in dns(office, {}, fallback="reserve")] == [Level.OK, Level.OK, Level.OK]
    assert [one.subject for one in dns(office, {}, fallback="reserve")] == [
        "SPF of firma.example", "DKIM of firma.example", "DMARC of firma.example"
    ]  # fmt: skip
    # Known already, as the domain and provider of another account.
    assert dns(office, {}, known=[("firma.example", "ionos-uk")], fallback="reserve") == []
    # Of another domain only what the provider permits: gmail permits its own addresses.
    assert dns(office, {}, fallback="google") == []
    missing = {rules[0]: ["v=spf1 ip4:192.0.2.1 -all"], rules[1]: ["v=DMARC1; p=reject"]}
    spf, *_rest = dns(office, missing, fallback="reserve")
    assert spf.level is Level.WRONG
    assert "ionos-uk" in spf.message + spf.hint


def test_check_says_that_the_records_of_a_provider_are_not_known(office: Office) -> None:
    [one] = dns(office, {}, fallback="hoster")
    assert (one.level, one.subject) == (Level.UNKNOWN, "SPF of firma.example")
    assert "the records of any, the provider of a fallback" in one.message


def test_a_fallback_that_does_not_exist_is_a_condition(staffed: Office) -> None:
    staffed.type("account", "edit", "anna", "--fallback", "reserve")
    from senderproxy.accounts.unlock import unlock_method
    from vault import Vault

    unlock = unlock_method(f"key-file:{staffed.folder / 'vault.key'}", None)
    with Vault.open(staffed.folder / "accounts.vault", unlock=unlock, write=True) as box:
        box.remove("reserve")
        box.save()
    found = staffed.type("check", "--offline", "--json").json
    [one] = [entry for entry in found if "reserve" in entry["words"] and "does not exist" in entry["words"]]
    assert one["level"] == "wrong"
    assert "the fallback of anna" in one["words"]
    assert staffed.type("account", "edit", "anna", "--display-name", "Anna").code == 64  # until it is removed
    assert staffed.type("account", "edit", "anna", "--no-fallback").code == 0
    assert staffed.type("account", "edit", "strict", "--display-name", "Post").code == 0
