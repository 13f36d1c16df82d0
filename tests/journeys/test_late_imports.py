"""The process imports no module of the program or of a library once it is ready: mail, commands, reloads, refusals."""

import asyncio
import smtplib
import sys
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.journeys.test_service import REFUSED, RELOADED, office
from tests.peers.mail_client import MailClient

pytestmark = pytest.mark.slow

_spawn = asyncio.create_subprocess_exec


async def _with_import_times(*words: str, **settings: object) -> asyncio.subprocess.Process:
    """Start the service with -X importtime: a line in its log for each import."""
    if words[-1] == "run":
        words = (words[0], "-X", "importtime", *words[1:])
    return await _spawn(*words, **settings)  # type: ignore[arg-type]


async def test_a_ready_service_imports_nothing_of_ours(tmp_path: Path) -> None:
    with patch("asyncio.create_subprocess_exec", _with_import_times):
        async with office(tmp_path) as place:
            ready = len(place.log)
            assert "senderproxy.app" in [_module(line) for line in place.log]
            for author in ("anna@firma.example", "stranger@elsewhere.example"):
                await place.send(author, ("kunde@customer.example", "other@customer.example"))
            await asyncio.to_thread(_send_with_an_umlaut_in_the_domain, place.port)
            for words in ("status", "queue", "check --offline", "track --to kunde@customer.example"):
                await place.command(*words.split())
            added = "account add neu@laden.example --provider ionos --password-stdin --no-verify"
            assert (await place.command(*added.split(), stdin="geheim-neu")).code == 0
            place.config.write_text("[[listeners\n")
            assert await place.reload() == REFUSED
            place.write_config('[log]\nformat = "json"\n[spool]\nmin_free = "1 MB"\n')
            assert await place.reload() == RELOADED
            assert (await place.send("anna@firma.example"))[0] == 250
        late = [_module(line) for line in place.log[ready:] if line.startswith("import time:")]
    assert late, "the standard library's"
    assert [name for name in late if name.partition(".")[0] not in sys.stdlib_module_names] == []


def _send_with_an_umlaut_in_the_domain(port: int) -> None:
    with MailClient("127.0.0.1", port) as client, suppress(smtplib.SMTPDataError):
        client.sendmail(
            "anna@firma.example", ["kunde@customer.example"], "From: <anna@bücher.example>\n\nHi\n".encode()
        )


def _module(line: str) -> str:
    return line.rpartition("|")[2].strip()
