"""Execution of one case: its steps against its office, and the differences from what must hold.

Guarantees: bounded in time; an internal error is a failure of the case with its traceback. What arrives a moment later
than the last reply (a log line, a message behind a queue) is waited for, up to a deadline; nothing sleeps instead.
Not here: the command line (tests.field.__main__).
"""

import asyncio
import base64
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.field.case import Case, CaseError, read_case
from tests.field.client import converse, start_tls, submit
from tests.field.office import Office, open_office

_CASE_SECONDS: Final = 300.0
_SETTLE_SECONDS: Final = 60.0  # for what follows the last reply: at once, but on a busy machine
_RETRY_SECONDS: Final = 0.05
_AUTHOR: Final = "anna@firma.example"
_MESSAGE: Final = (
    "From: Anna <{author}>\r\nTo: kunde@customer.example\r\nDate: Sun, 29 Nov 2026 10:00:00 +0100\r\n"
    "Subject: Test\r\nMessage-ID: <1@firma.example>\r\n\r\nGuten Tag\r\n"
)


@dataclass(slots=True)
class Outcome:
    """The result of one case: the differences, empty if it holds, and what was seen."""

    name: str
    title: str
    differences: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        """The line of this case; below it, for a case that does not hold, all details."""
        lines = [f"{'PASS' if self.holds else 'FAIL'}  {self.name}: {self.title}"]
        if not self.holds:
            lines += [f"        {difference}" for difference in self.differences]
            lines += ["        | " + each.strip().replace("\n", "\n        |   ") for each in self.seen]
        return "\n".join(lines)


async def run_file(path: Path) -> Outcome:
    """Run the case of this file."""
    try:
        case = read_case(path)
    except CaseError as error:
        return Outcome(path.name, "unusable", [str(error)])
    outcome = Outcome(path.name, case.title)
    try:
        async with asyncio.timeout(_CASE_SECONDS):
            await _run(case, outcome)
    except TimeoutError:
        outcome.differences.append(f"not finished within {_CASE_SECONDS:.0f} s")
    except Exception:
        outcome.differences.append(traceback.format_exc())
    return outcome


async def _run(case: Case, outcome: Outcome) -> None:
    async with open_office(case) as office:
        for number, step in enumerate(case.steps, 1):
            result = await _ACTIONS[step.action](office, case, step.arguments)
            outcome.seen.append(f"step {number}: {result.strip()[:600]}")
            outcome.differences += [
                f"step {number} {expectation}" for expectation in step.expectations if not expectation.holds(result)
            ]
        await _settle(case, office)
        outcome.differences += _wrong_counts(case, office)
        outcome.differences += await _wrong_texts(case, office, outcome)


async def _settle(case: Case, office: Office) -> None:
    """Wait until counts and log are as expected, at most `_SETTLE_SECONDS`."""
    try:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while _wrong_counts(case, office) or _missing_in_log(case, office):
                await asyncio.sleep(_RETRY_SECONDS)
    except TimeoutError:
        pass  # the differences are reported by the caller


def _missing_in_log(case: Case, office: Office) -> bool:
    wanted = [expectation for name, expectation in case.texts if name == "log" and expectation.wanted]
    return bool(wanted) and not all(expectation.holds(office.log()) for expectation in wanted)


def _wrong_counts(case: Case, office: Office) -> list[str]:
    """The counts that are not as expected. A name that ends in `_max` is a limit."""
    counts = _counts(office)
    return [
        f"{name} is {counts[name]}, should be {expected}"
        for name, expected in case.counts.items()
        if (counts[name] > expected if name.endswith("_max") else counts[name] != expected)
    ]


def _counts(office: Office) -> dict[str, int]:
    simulator = office.simulator
    if simulator is None:
        taken = office.upstream.taken if office.upstream is not None else 0
        return {"received": taken, "recipients": taken, "logins_max": 0}
    logins = [session for session in simulator.sessions if "AUTH" in session.verbs]
    return {
        "received": len(simulator.received),
        "recipients": sum(len(message.recipients) for message in simulator.received),
        "logins_max": len(logins),
    }


async def _wrong_texts(case: Case, office: Office, outcome: Outcome) -> list[str]:
    texts: dict[str, str] = {}
    differences = []
    for name, expectation in case.texts:
        if name not in texts:
            texts[name] = await _text(name, office)
        if not expectation.holds(texts[name]):
            differences.append(f"{name} {expectation}")
            outcome.seen.append(f"{name}: {texts[name][-1500:]}")
    return differences


async def _text(name: str, office: Office) -> str:
    if name == "log":
        return office.log()
    if name in ("status", "check"):
        return await office.command(["status"] if name == "status" else ["check", "--offline"])
    received = office.simulator.received if office.simulator is not None else []
    content = received[-1].content.decode("latin-1") if received else ""
    return content.partition("\r\n\r\n")[0] if name == "header" else content


# ---- steps ----


async def _send(office: Office, case: Case, arguments: Any) -> str:
    author = arguments.get("author", _AUTHOR)
    if "eml" in arguments:
        content = (case.path.parent / arguments["eml"]).read_bytes()
    else:
        content = arguments.get("raw", _MESSAGE.format(author=author)).encode()
    return await submit(office.port, arguments.get("from", author), _recipients(arguments), content)


def _recipients(arguments: Any) -> list[str]:
    """A number stands for so many recipients."""
    match arguments.get("to", "kunde@customer.example"):
        case int(count):
            return [f"k{number}@customer.example" for number in range(count)]
        case str(address):
            return [address]
        case addresses:
            return list(addresses)


async def _people(office: Office, _case: Case, arguments: Any) -> str:
    """So many people send one message each, one after the other."""
    refused = []
    for number in range(arguments["count"]):
        author = f"u{number}@firma.example"
        content = _MESSAGE.format(author=author).encode()
        reply = await submit(office.port, author, ["kunde@customer.example"], content)
        if not reply.startswith("250"):
            refused.append(reply)
    return "".join(refused) or "250 all"


async def _cli(office: Office, case: Case, arguments: Any) -> str:
    """HERE in an argument is the case's directory; the program gets a private copy of the file."""
    words = [
        str(office.private_copy(case.path.parent / word.removeprefix("HERE/"))) if word.startswith("HERE/") else word
        for word in arguments["args"]
    ]
    standard_input = base64.b64decode(arguments.get("stdin_b64", ""))
    return await office.command(words, standard_input, arguments.get("env"))


async def _dialogue(office: Office, _case: Case, arguments: Any) -> str:
    """The last reply of the dialogue."""
    replies = await converse(office.port, arguments["pieces"], arguments.get("wait", 30))
    return replies[-1]


async def _tls_client(office: Office, _case: Case, arguments: Any) -> str:
    ciphers = arguments.get("ciphers", "DEFAULT:@SECLEVEL=0")
    return await asyncio.to_thread(start_tls, office.port, arguments["version"], ciphers)


async def _wait(_office: Office, _case: Case, arguments: Any) -> str:
    await asyncio.sleep(arguments["seconds"])
    return ""


_ACTIONS: Final[dict[str, Callable[[Office, Case, Any], Awaitable[str]]]] = {
    "send": _send,
    "people": _people,
    "cli": _cli,
    "dialogue": _dialogue,
    "tls-client": _tls_client,
    "wait": _wait,
}
