"""The commands in the pages about OAuth are typed as the program accepts them, and so are those of its hints."""

import re
import shlex
from collections.abc import Iterator

import pytest

from senderproxy.cli.main import parser
from senderproxy.oauth.hints import TokenSubject, hint
from senderproxy.oauth.refusals import RefusalCause
from tests.peers.packages import PROJECT

PAGES = ("oauth.md", "microsoft-365.md")
_INLINE = re.compile(r"`(?:sudo )?(?:senderproxy )?((?:account|oauth|client|send|vault|status|check)\b[^`]*)`")
_OF_A_HINT = re.compile(r"senderproxy ((?:account|oauth)(?: [\w@.-]+)+)")


def commands() -> Iterator[str]:
    for page in PAGES:
        text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if (found := re.match(r"\s*sudo senderproxy (.*)", line.partition(" #")[0])) is not None:
                    yield found[1].strip()
        yield from _INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))


COMMANDS = sorted(set(commands()))
HINTS = sorted({
    command
    for server in ("microsoft", "google", "firma")
    for cause in RefusalCause
    for command in _OF_A_HINT.findall(hint(cause, TokenSubject("anna", "firma", server)))
})  # fmt: skip


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 15
    assert len(HINTS) >= 5


@pytest.mark.parametrize("command", [*COMMANDS, *HINTS])
def test_a_command_is_accepted(command: str) -> None:
    words = shlex.split(command)
    if len(words) <= 2:  # an action that is named, not typed
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([*words, "--help"])
        assert ended.value.code == 0
    else:
        parser().parse_args(
            [*words, "ADDRESS"] if words[:2] == ["account", "add"] and words[2] == "--device" else words
        )
