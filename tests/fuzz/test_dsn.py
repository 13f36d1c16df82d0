"""A report about any message with any reply: one multipart/report that other programs can read, and nothing injected."""

from dataclasses import replace
from datetime import UTC, datetime
from email.message import Message as ParsedMessage
from email.parser import BytesParser
from email.policy import compat32

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.dsn.compose import MemoryBody, Original, Report, ReportContext, ReportedRecipient, compose_report
from senderproxy.dsn.report_policy import ReportKind
from senderproxy.mail.address import parse_address
from senderproxy.mail.message import Message
from senderproxy.mail.reply import EnhancedStatus, Reply, parse_reply
from tests.fuzz.octets import MESSAGES, received
from tests.fuzz.profile import fuzzed

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
CONTEXT = ReportContext(
    "relay.example", parse_address("mailer-daemon@firma.example"), "Rep23xyzABCD", NOW, returned_size=50_000, retry_until=NOW
)  # fmt: skip
_HOSTILE = st.sampled_from(
    ["\r\n\r\n--b", "a\r\nX-Own: yes", "=?utf-8?q?=0D=0A?=", "\x85\u2028\u202e", "x" * 3000, "--", ""]
)
_TEXTS = st.text(max_size=40) | _HOSTILE
_RECEIVED_REPLIES = st.lists(st.binary(max_size=60).map(lambda text: b"550-" + text), min_size=1, max_size=4).map(
    parse_reply
)
_OWN_REPLIES = st.builds(
    Reply,
    st.sampled_from([250, 451, 550]),
    st.sampled_from([None, EnhancedStatus(5, 1, 1), EnhancedStatus(4, 999, 999)]),
    st.lists(_TEXTS, max_size=3).map(tuple),
)
_PATHS = st.sampled_from(["bert@kunde.example", '"a b"@c.example', "a@[192.0.2.1]", "x" * 60 + "@kunde.example"]).map(
    parse_address
)
_RECIPIENTS = st.lists(
    st.builds(
        ReportedRecipient,
        _PATHS,
        st.none() | _RECEIVED_REPLIES | _OWN_REPLIES,
        st.none() | _TEXTS,
        st.sampled_from([None, NOW]),
    ),
    min_size=1,
    max_size=3,
)
_IDS = st.sampled_from(["Abc23defGHJK", "a\r\nX-Own: yes"])

REPORT_FIELDS = {"reporting-mta", "x-senderproxy-id", "arrival-date"}
RECIPIENT_FIELDS = {"final-recipient", "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date",
                    "will-retry-until"}  # fmt: skip
FIELDS = {"from", "to", "subject", "date", "message-id", "auto-submitted", "in-reply-to", "references", "mime-version",
          "content-type", "content-transfer-encoding"}  # fmt: skip


def octets_of(report: Report) -> bytes:
    """The report without dot-stuffing."""
    return (b"\n" + b"".join(report.message.blocks())).replace(b"\n.", b"\n")[1:]


def leaves(part: ParsedMessage) -> list[ParsedMessage]:
    found = part.get_payload()
    assert isinstance(found, list)
    assert all(isinstance(one, ParsedMessage) for one in found)
    return [one for one in found if isinstance(one, ParsedMessage)]


@fuzzed(120)
@given(st.sampled_from(ReportKind), MESSAGES, _RECIPIENTS, _IDS, st.sampled_from([0, 400, 50_000]))
def test_a_report_has_its_three_parts_whatever_it_reports_on(
    kind: ReportKind, octets: bytes, recipients: list[ReportedRecipient], message_id: str, returned_size: int
) -> None:
    header, body = received(octets)
    original = Original(message_id, Message(header, MemoryBody(body)), NOW)
    report = compose_report(
        kind, parse_address("anna@firma.example"), recipients, original, replace(CONTEXT, returned_size=returned_size)
    )
    wire = octets_of(report)
    lines = wire.split(b"\r\n")
    assert lines[-1] == b""
    assert all(len(line) <= 998 and not {b"\r"[0], b"\n"[0], 0} & set(line) for line in lines)
    assert wire.isascii() or report.eight_bit
    parsed = BytesParser(policy=compat32).parsebytes(wire)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert not parsed.defects
    assert {name.lower() for name in parsed} <= FIELDS
    assert len(parsed.keys()) == len(set(parsed.keys()))
    text, status, returned = leaves(parsed)
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    _about_each_recipient(leaves(status), recipients)
    if returned.get_content_type() == "message/rfc822":
        whole = header.raw + (b"\n" + body).replace(b"\n.", b"\n")[1:]
        assert whole in wire or header.raw[-4:] != b"\r\n\r\n"
    else:
        assert returned.get_content_type() == "text/rfc822-headers"
        content = returned.get_payload(decode=True)
        assert isinstance(content, bytes)
        assert content.rstrip(b"\r\n") == header.raw.rstrip(b"\r\n")


def _about_each_recipient(blocks: list[ParsedMessage], recipients: list[ReportedRecipient]) -> None:
    first, *others = blocks
    assert {name.lower() for name in first} == REPORT_FIELDS
    assert [block["Final-Recipient"] for block in others] == [f"rfc822; {one.path}" for one in recipients]
    for block in others:
        assert {name.lower() for name in block} <= RECIPIENT_FIELDS
        assert len(block.keys()) == len(set(block.keys()))
