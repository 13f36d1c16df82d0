"""The end of message data, its line ends and its header section."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.mail.header import HeaderSection
from senderproxy.wire.data_decoder import BareLf, DataDecoder, HeaderCollector, HeaderTooLarge
from senderproxy.wire.line_ends import BareCr, InvalidOctet

END = b"\r\n.\r\n"


def decode(stream: bytes, cut: int = 1 << 20, bare_lf: BareLf = BareLf.NORMALIZE) -> tuple[bytes, DataDecoder]:
    """Feed the stream in pieces of `cut` octets; what did not fit before the end is put behind `rest`."""
    decoder = DataDecoder(bare_lf)
    out = b""
    position = 0
    while position < len(stream) and not decoder.done:
        out += decoder.feed(stream[position : position + cut])
        position += cut
    decoder.rest += stream[position:]
    return out, decoder


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b""),
        (b"Hello\r\n", b"Hello\r\n"),
        (b"..\r\n", b"..\r\n"),
        (b"..dot\r\n...\r\n", b"..dot\r\n...\r\n"),
        (b".unstuffed\r\n", b".unstuffed\r\n"),
        (b"\r\n", b"\r\n"),
        (b"\r\n\r\n\r\n", b"\r\n\r\n\r\n"),
        (b"\xff\x80 eight bit\r\n", b"\xff\x80 eight bit\r\n"),
        (b"no line end" + b"x" * 70_000 + b"\r\n", b"no line end" + b"x" * 70_000 + b"\r\n"),
        # bare line feeds
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"\n\n\r\n", b"\r\n\r\n\r\n"),
        (b"a\n.\nb\r\n", b"a\r\n..\r\nb\r\n"),
        (b"a\n.\r\n", b"a\r\n..\r\n"),
        (b"a\r\n.\nb\r\n", b"a\r\n..\r\nb\r\n"),
        (b".\nb\r\n", b"..\r\nb\r\n"),
        (b"a\r\n.\n.\nb\r\n", b"a\r\n..\r\n..\r\nb\r\n"),
        (b"a\n.b\r\n", b"a\r\n..b\r\n"),
        (b"a\n..b\r\n", b"a\r\n..b\r\n"),
        (b"a\n\r\n", b"a\r\n\r\n"),
    ],
)
def test_a_message_comes_out_in_its_wire_form(content: bytes, wire: bytes, cut: int) -> None:
    stream = content + (b".\r\n" if not content else END[2:])
    out, decoder = decode(stream + b"QUIT\r\n", cut)
    assert decoder.done
    assert decoder.invalid is None
    assert out == wire
    assert decoder.rest == b"QUIT\r\n"
    assert decoder.octets == len(content)


SMUGGLED = b"MAIL FROM:<boss@firma.example>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\nevil\r\n"


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 7, 1 << 20])
@pytest.mark.parametrize("bare_lf", list(BareLf))
@pytest.mark.parametrize(
    "false_end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n.\r",
        b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\0\r\n.\n",
        b"\n\n.\n\n",
        b"\r\n.\n.\r",
        b"\r\n.\n.\n",
        b"\n\r.\r\n",
        b"\r\n.\x0b\r\n",
        b"\r\n.\x85\r\n",
        b"\r\n .\r\n",
        b"\r\n.\r\x00\n",
    ],
)
def test_no_known_smuggling_sequence_ends_a_message(false_end: bytes, bare_lf: BareLf, cut: int) -> None:
    stream = b"Subject: x\r\n\r\nhello" + false_end + SMUGGLED
    out, decoder = decode(stream + END[2:] + b"QUIT\r\n", cut, bare_lf)
    assert decoder.rest == b"QUIT\r\n", "the whole stream is one message"
    assert_clean(out)
    if decoder.invalid is None:
        assert out.endswith(b"evil\r\n")
    elif bare_lf is BareLf.NORMALIZE:
        assert decoder.invalid is not InvalidOctet.BARE_LF


def assert_clean(out: bytes) -> None:
    assert END not in b"\r\n" + out
    assert b"\0" not in out
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", out)


def by_repaired_lines(content: bytes, bare_lf: BareLf) -> bytes | None:
    """The same for a listener that converts CRs: the line ends are told apart first, then each line is judged."""
    if b"\0" in content or (bare_lf is BareLf.REJECT and re.search(rb"(?<!\r)\n", content)):
        return None
    lines = re.findall(rb"([^\r\n]*)(\r+\n|\n|\r+|\Z)", content)
    if lines and lines[-1] == (b"", b""):
        lines.pop()
    out = b""
    before = b"\r\n"
    in_header = True
    for text, line_end in lines:
        if in_header and line_end and not line_end.endswith(b"\n"):
            return None
        in_header = in_header and text != b""
        if text == b".":
            text = b".."
        elif text.startswith(b".") and (not before.endswith(b"\n") or (before == b"\n" and not text.startswith(b".."))):
            text = b"." + text
        out += text + b"\r\n"
        before = line_end
    return out


def by_lines(content: bytes, bare_lf: BareLf) -> bytes | None:
    """A second reading, line by line and slow: the wire form of what stood before the end, or None if it is refused."""
    if b"\0" in content or re.search(rb"\r(?!\n)", content):
        return None
    if bare_lf is BareLf.REJECT and re.search(rb"(?<!\r)\n", content):
        return None
    out = b""
    after_bare_lf = False
    for line in content.splitlines(keepends=True):
        text = line.rstrip(b"\r\n")
        bare = not line.endswith(b"\r\n")
        if text.startswith(b".") and not text.startswith(b"..") and (after_bare_lf or text == b"."):
            text = b"." + text
        out += text + b"\r\n"
        after_bare_lf = bare
    return out


PIECES = st.sampled_from(
    [b"\r\n", b"\r\n", b"\n", b"\n", b".", b".", b"\r", b"x", b"\0", b"\xff", b"\r\n.\n", b"\n.\r\n"]
)


@settings(max_examples=1000)
@given(
    st.lists(PIECES, max_size=16),
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.sampled_from(list(BareLf)),
)
def test_any_stream_cut_anyhow_reads_like_its_lines(parts: list[bytes], cuts: list[int], bare_lf: BareLf) -> None:
    stream = b"".join(parts) + END + b"QUIT\r\n"
    end = (b"\r\n" + stream).index(END)
    content = (b"\r\n" + stream)[2 : end + 2]
    decoder = DataDecoder(bare_lf)
    out = b""
    position = turn = 0
    while position < len(stream) and not decoder.done:
        step = cuts[turn % len(cuts)]
        out += decoder.feed(stream[position : position + step])
        position += step
        turn += 1
    assert decoder.rest + stream[position:] == (b"\r\n" + stream)[end + 5 :]
    assert decoder.octets == len(content)
    expected = by_lines(content, bare_lf)
    if expected is None:
        assert decoder.invalid is not None
    else:
        assert decoder.invalid is None
        assert out == expected
        assert out == b"" or out.endswith(b"\r\n")
        assert_clean(out)


@settings(max_examples=2000)
@given(
    st.booleans(),
    st.lists(PIECES | st.sampled_from([b"\r\r\n", b"\r\r", b"\r\n\r\n", b"..", b"\r.", b"\r\r\n.\r\r\n"]), max_size=16),
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.sampled_from(list(BareLf)),
)
def test_any_stream_with_converted_crs_reads_like_its_lines(
    in_body: bool, parts: list[bytes], cuts: list[int], bare_lf: BareLf
) -> None:
    stream = b"\r\n" * in_body + b"".join(parts) + END + b"QUIT\r\n"
    end = (b"\r\n" + stream).index(END)  # CRLF.CRLF as received, whatever is converted
    content = (b"\r\n" + stream)[2 : end + 2]
    decoder = DataDecoder(bare_lf, BareCr.CONVERT)
    out = b""
    position = turn = 0
    while position < len(stream) and not decoder.done:
        step = cuts[turn % len(cuts)]
        out += decoder.feed(stream[position : position + step])
        position += step
        turn += 1
    assert decoder.rest + stream[position:] == (b"\r\n" + stream)[end + 5 :]
    assert decoder.octets == len(content)
    expected = by_repaired_lines(content, bare_lf)
    if expected is None:
        assert decoder.invalid is not None
    else:
        assert decoder.invalid is None
        assert out == expected
        assert_clean(out)


CR_TABLE = [
    (b"a\r\r\nb\r\r\n", b"a\r\nb\r\n"),
    (b"a\r\r\r\nb\r\n", b"a\r\nb\r\n"),
    (b"100%\rready\r\n", b"100%\r\nready\r\n"),
    (b"10%\r\r\r20%\r\n", b"10%\r\n20%\r\n"),
    (b"a\r\r\n.\r\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r\n.\r\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r..\r\n", b"a\r\n...\r\n"),
    (b"a\r.b\r\n", b"a\r\n..b\r\n"),
    (b"a\r\r\n..b\r\n", b"a\r\n..b\r\n"),
    (b"a\r\r\n.b\r\n", b"a\r\n.b\r\n"),
    (b"a\r\n.\rb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\n.\rb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r.\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r\n\r\nb\r\n", b"a\r\n\r\nb\r\n"),
    (b"a\n\rb\r\n", b"a\r\n\r\nb\r\n"),
]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 7, 1 << 20])
@pytest.mark.parametrize(("body", "wire"), CR_TABLE)
def test_damaged_line_ends_in_the_body_are_converted(body: bytes, wire: bytes, cut: int) -> None:
    stream = b"Subject: x\r\n\r\n" + body + END[2:] + b"QUIT\r\n"
    decoder = DataDecoder(BareLf.NORMALIZE, BareCr.CONVERT)
    out = b""
    for position in range(0, len(stream), cut):
        if decoder.done:
            decoder.rest += stream[position:]
            break
        out += decoder.feed(stream[position : position + cut])
    assert (out, decoder.rest) == (b"Subject: x\r\n\r\n" + wire, b"QUIT\r\n")
    assert decoder.converted_cr or b"\r\r" not in body


@pytest.mark.parametrize("cut", [1, 2, 3, 1 << 20])
def test_no_converted_line_end_ends_a_message(cut: int) -> None:
    """CRLF.CRLF as received is the only end: what becomes it by conversion is content."""
    for false_end in (
        b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\n.\r",
        b"\r.\n",
        b"\r\r.\r\r\n",
    ):
        stream = b"Subject: x\r\n\r\nhello" + false_end + SMUGGLED + END[2:] + b"QUIT\r\n"
        decoder = DataDecoder(BareLf.NORMALIZE, BareCr.CONVERT)
        out = b""
        position = 0
        while not decoder.done:
            out += decoder.feed(stream[position : position + cut])
            position += cut
        assert decoder.rest + stream[position:] == b"QUIT\r\n", "the whole stream is one message"
        assert_clean(out)
        assert out.endswith(b"evil\r\n")


def test_a_bare_cr_in_the_header_section_stays_invalid() -> None:
    for header in (b"Subject: a\rb\r\n\r\n", b"\rSubject: a\r\n\r\n", b"a\r\n\r", b"From: a@b.example\rTo: x\r\n"):
        decoder = DataDecoder(BareLf.NORMALIZE, BareCr.CONVERT)
        decoder.feed(header + b"x\r\n.\r\n")
        assert decoder.invalid is InvalidOctet.BARE_CR, header


@settings(max_examples=300)
@given(st.binary(max_size=4000), st.integers(1, 4096))
def test_the_output_is_clean_for_any_input(noise: bytes, cut: int) -> None:
    decoder = DataDecoder()
    out = b""
    for position in range(0, len(noise), cut):
        if decoder.done:
            break
        out += decoder.feed(noise[position : position + cut])
    if not decoder.done:
        out += decoder.feed(END)
    assert decoder.done
    assert END not in b"\r\n" + out
    assert not re.search(rb"\0|\r(?!\n)|(?<!\r)\n", out)


def test_after_an_invalid_octet_the_rest_is_read_without_output() -> None:
    out, decoder = decode(b"a\r\nb\rc\r\nd\r\n.\r\nQUIT\r\n", cut=4)
    assert decoder.invalid is InvalidOctet.BARE_CR
    assert b"d" not in out
    assert decoder.octets == len(b"a\r\nb\rc\r\nd\r\n")
    assert decoder.rest == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"a\rb\r\n", InvalidOctet.BARE_CR), (b"a\0b\r\n", InvalidOctet.NUL), (b"a\r\r\nb\r\n", InvalidOctet.BARE_CR)],
)
def test_each_invalid_octet_is_reported_by_its_kind(content: bytes, fault: InvalidOctet) -> None:
    assert decode(content + END[2:])[1].invalid is fault
    assert decode(b"a\nb\r\n" + END[2:], bare_lf=BareLf.REJECT)[1].invalid is InvalidOctet.BARE_LF


def collect(wire: bytes, cut: int, limit: int = 1000, fields: int = 1000) -> tuple[HeaderCollector, bytes]:
    collector = HeaderCollector(limit, fields)
    decoder = DataDecoder()
    body = b""
    stream = wire + END[2:]
    for position in range(0, len(stream), cut):
        body += collector.feed(decoder.feed(stream[position : position + cut]))
    assert decoder.done
    return collector, body


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("wire", "header", "body"),
    [
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n\r\n", b"body\r\n"),
        (b"A: b\r\nC: d\r\n\r\n\r\n..body\r\n", b"A: b\r\nC: d\r\n\r\n", b"\r\n..body\r\n"),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"A: b\r\n\r\n", b"A: b\r\n\r\n", b""),
        (b"\r\nbody only\r\n", b"\r\n", b"body only\r\n"),
        (b"\r\n", b"\r\n", b""),
        (b"A: b\r\n..c: d\r\n\r\n..e\r\n", b"A: b\r\n.c: d\r\n\r\n", b"..e\r\n"),
        (b"..a: b\r\n\r\nx\r\n", b".a: b\r\n\r\n", b"x\r\n"),
        (b"A: b\n\nbody\r\n", b"A: b\r\n\r\n", b"body\r\n"),
    ],
)
def test_the_header_section_is_split_off_without_its_stuffing(
    wire: bytes, header: bytes, body: bytes, cut: int
) -> None:
    collector, rest = collect(wire, cut)
    assert section_of(collector).raw == header
    assert rest == body


def section_of(collector: HeaderCollector) -> HeaderSection:
    section = collector.section()
    assert isinstance(section, HeaderSection)
    return section


CUTS = [1, 2, 3, 7, 1 << 20]
LONG = b"To: " + b"anna@firma.example,\r\n " * 60 + b"bert@kunde.example\r\n"
BODY = b"\r\nX-Body: " + b"x" * 3000 + b"\r\n"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("header", "largest", "octets"),
    [
        (b"A: b\r\n" * 200 + BODY, "A", 6),
        (b"A: b\r\n" * 200, "A", 6),
        (b"From: a@b\r\n" + LONG + b"Subject: x\r\n" + BODY, "To", len(LONG)),
        (b"A: " + b"b" * 990 + b"\r\n" + LONG + BODY, "To", len(LONG)),
        (LONG + BODY, "To", len(LONG)),
        (b"A: b\r\n" + LONG, "To", len(LONG)),
        (b"A: b\r\n" + b"X" * 1200 + b"\r\n" + BODY, "a line without a field name", 1202),
        (b"A: b\r\nX " + b"\t: " + b"y" * 1200 + b"\r\n" + BODY, "X", 1207),
        (b"A: b\r\n..stuffed: " + b"y" * 1200 + b"\r\n" + BODY, ".stuffed", 1213),
    ],
)
def test_a_header_section_with_too_many_octets_is_measured_to_its_end(
    header: bytes, largest: str, octets: int, cut: int
) -> None:
    collector, body = collect(header, cut)
    assert collector.section() == HeaderTooLarge(False, largest, octets)
    assert body == b""


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("end", [b"\r\nbody\r\n", b"\r\n", b""])
def test_a_header_section_may_have_so_many_fields_and_no_more(end: bytes, cut: int) -> None:
    fields = b"A: b\r\n" * 9 + b"Long: b\r\n c\r\n\td\r\n"
    assert section_of(collect(fields + end, cut, fields=10)[0]).raw.startswith(fields)
    too_many = collect(b"B: c\r\n" + fields + end, cut, fields=10)[0].section()
    assert isinstance(too_many, HeaderTooLarge)
    assert too_many.too_many_fields


def test_the_largest_of_too_many_fields_is_named() -> None:
    fields = b"A: b\r\n" * 9 + b"Long: b\r\n c\r\n\td\r\n" + b"A: b\r\n" * 9
    assert collect(fields + b"\r\nbody\r\n", 100, fields=12)[0].section() == HeaderTooLarge(True, "Long", 17)


@given(st.lists(st.sampled_from([b"A: b", b" c", b"X" * 40, b"Y: " + b"z" * 90, b"\tt"]), max_size=40))
def test_the_largest_field_does_not_depend_on_the_pieces(lines: list[bytes]) -> None:
    wire = b"First: x\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\nbody\r\n"
    whole = collect(wire, 1 << 20, limit=20)[0].section()
    assert all(collect(wire, cut, limit=20)[0].section() == whole for cut in (1, 2, 5))


def test_a_header_section_over_the_limit_is_not_kept() -> None:
    collector = HeaderCollector(limit=1000)
    for _ in range(1000):
        assert collector.feed(b"X: " + b"x" * 1000 + b"\r\n") == b""
    assert len(collector._collected) == 0
    assert sys.getsizeof(collector._meter._start) < 1000  # type: ignore[union-attr]  # set by then


@given(st.lists(st.sampled_from([b"\r\n", b"A: b", b".", b"..", b" x"]), max_size=12), st.integers(1, 9))
def test_header_and_body_together_are_what_came_in(parts: list[bytes], cut: int) -> None:
    wire = (b"".join(parts) + b"\r\n").replace(b"\r\n.", b"\r\n..")
    wire = b"." + wire if wire.startswith(b".") else wire
    collector, body = collect(wire, cut)
    assert section_of(collector).dot_stuffed() + body == wire
