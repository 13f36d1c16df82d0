"""What we rely on in aiosmtpd is there, and nothing else is relied on."""

import ast
import inspect
from pathlib import Path

import aiosmtpd
import pytest
from aiosmtpd.smtp import SMTP

from senderproxy.clock import SystemClock
from senderproxy.listener import relay_smtp
from senderproxy.listener.aiosmtpd_adapter import (
    PRIVATE_ATTRIBUTES,
    PRIVATE_NAMES,
    Handler,
    UnsupportedAiosmtpd,
    check_aiosmtpd,
)
from senderproxy.listener.relay_smtp import RelaySMTP
from tests.fakes.recording_intake import RecordingIntake

HANDLER = Handler(RecordingIntake(), "office", SystemClock())


def inherited_privates() -> set[str]:
    """Private names of aiosmtpd (and asyncio below it) that RelaySMTP mentions or replaces."""
    tree = ast.parse(Path(inspect.getfile(relay_smtp)).read_text())
    [cls] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "RelaySMTP"]
    mentioned = {
        node.attr
        for node in ast.walk(cls)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    mentioned |= {node.name for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    source = inspect.getsource(inspect.getmodule(SMTP))  # type: ignore[arg-type]
    theirs = set(dir(SMTP)) | {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    return {name for name in mentioned & theirs if name.startswith("_") and not name.startswith("__")}


def test_every_private_name_in_use_is_on_the_list_and_every_name_on_the_list_in_use() -> None:
    used_by_them = {"_cb_client_connected", "_handler_coroutine"}  # for us
    assert inherited_privates() | used_by_them == PRIVATE_NAMES | PRIVATE_ATTRIBUTES


def test_the_installed_version_is_one_we_know() -> None:
    check_aiosmtpd(HANDLER)
    assert aiosmtpd.__version__.startswith("1.4.")


@pytest.mark.parametrize("version", ["1.4.5", "1.5.0", "2.0"])
def test_another_version_does_not_start(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiosmtpd, "__version__", version)
    with pytest.raises(UnsupportedAiosmtpd, match=version):
        check_aiosmtpd(HANDLER)


def test_a_version_without_a_name_we_need_does_not_start() -> None:
    with pytest.raises(UnsupportedAiosmtpd, match="_gone_in_the_next_version"):
        check_aiosmtpd(HANDLER, PRIVATE_NAMES | {"_gone_in_the_next_version"})


def test_a_hook_that_is_misspelled_does_not_start() -> None:
    class Misspelled:
        async def handle_data(self) -> None: ...

    class OneTooMany(Handler):
        async def handle_MAIL(self) -> None: ...

    for handler in (Misspelled(), OneTooMany(RecordingIntake(), "office", SystemClock()), object()):
        with pytest.raises(UnsupportedAiosmtpd, match="spelled"):
            check_aiosmtpd(handler)


def test_the_hook_we_have_is_the_one_aiosmtpd_finds() -> None:
    assert list(inspect.signature(SMTP._call_handler_hook).parameters) == ["self", "command", "args"]
    assert [name for name in dir(HANDLER) if name.startswith("handle_")] == ["handle_DATA"]
    assert not {name for name in vars(RelaySMTP) if name.startswith(("smtp_", "auth_"))}


def test_what_we_replace_has_the_form_it_had() -> None:
    assert inspect.iscoroutinefunction(SMTP._handle_client)
    assert list(inspect.signature(SMTP._reset_timeout).parameters) == ["self", "duration"]
    assert list(inspect.signature(SMTP._timeout_cb).parameters) == ["self"]
    assert list(inspect.signature(SMTP._create_envelope).parameters) == ["self"]
    lost = inspect.getsource(SMTP.connection_lost)
    assert "_handler_coroutine.cancel()" in lost, "the conversation ends with the connection"
    assert "_timeout_handle.cancel()" in lost
    made = inspect.getsource(SMTP.connection_made)
    assert "create_task(\n                self._handle_client())" in made
