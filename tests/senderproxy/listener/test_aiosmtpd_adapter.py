"""Internals of aiosmtpd that the listener relies on: all of them listed, checked at start, and no others in use."""

import ast
import functools
import inspect
import textwrap
from pathlib import Path

import aiosmtpd
import pytest
from aiosmtpd.smtp import SMTP

from senderproxy.clock import SystemClock
from senderproxy.listener import late_smtp, relay_smtp
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


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_attributes(tree: ast.AST) -> set[str]:
    """Names of attributes of `self`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


@functools.cache
def privates_of_aiosmtpd() -> set[str]:
    """Private names of aiosmtpd's class and of asyncio's classes below it."""
    sources = [inspect.getsource(inspect.getmodule(SMTP))]  # type: ignore[arg-type]
    sources += [textwrap.dedent(inspect.getsource(base)) for base in SMTP.__mro__[1:-1]]
    names = set(dir(SMTP)).union(*(own_attributes(ast.parse(source)) for source in sources))
    return {name for name in names if is_private(name)}


def privates_in_relay_smtp() -> set[str]:
    """Private names of aiosmtpd that RelaySMTP and its base use or replace."""
    used: set[str] = set()
    for module in (relay_smtp, late_smtp):
        tree = ast.parse(Path(inspect.getfile(module)).read_text())
        [cls] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        methods = {node.name for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        used |= own_attributes(cls) | methods
    return used & privates_of_aiosmtpd()


def foreign_privates(module: Path) -> set[str]:
    """Private names of aiosmtpd that a module uses on an object other than `self`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    } & privates_of_aiosmtpd()


def test_every_private_name_in_use_is_on_the_list_and_every_name_on_the_list_is_in_use() -> None:
    used_by_aiosmtpd = {"_cb_client_connected"}  # on behalf of the listener
    assert privates_in_relay_smtp() | used_by_aiosmtpd == PRIVATE_NAMES | PRIVATE_ATTRIBUTES


def test_no_module_reaches_into_the_connection_of_aiosmtpd_from_outside() -> None:
    modules = sorted(Path(inspect.getfile(relay_smtp)).parent.glob("*.py"))
    assert "data_phase.py" in [module.name for module in modules]
    assert {module.name: names for module in modules if (names := foreign_privates(module))} == {}


def test_a_private_name_used_from_outside_is_noticed(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("async def drain(smtp):\n    await smtp._writer.drain()\n")
    assert foreign_privates(module) == {"_writer"}


def test_the_installed_version_is_supported() -> None:
    check_aiosmtpd(HANDLER)
    assert aiosmtpd.__version__.startswith("1.4.")


@pytest.mark.parametrize("version", ["1.4.5", "1.5.0", "2.0"])
def test_another_version_does_not_start(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiosmtpd, "__version__", version)
    with pytest.raises(UnsupportedAiosmtpd, match=version):
        check_aiosmtpd(HANDLER)


def test_a_version_without_a_required_name_does_not_start() -> None:
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


def test_the_hook_of_the_handler_is_the_one_aiosmtpd_finds() -> None:
    assert list(inspect.signature(SMTP._call_handler_hook).parameters) == ["self", "command", "args"]
    assert [name for name in dir(HANDLER) if name.startswith("handle_")] == ["handle_DATA"]
    assert not {name for name in vars(RelaySMTP) if name.startswith(("smtp_", "auth_"))}


def test_replaced_methods_have_the_signature_they_had() -> None:
    assert inspect.iscoroutinefunction(SMTP._handle_client)
    assert list(inspect.signature(SMTP._reset_timeout).parameters) == ["self", "duration"]
    assert list(inspect.signature(SMTP._create_envelope).parameters) == ["self"]
    lost = inspect.getsource(SMTP.connection_lost)
    assert "_handler_coroutine.cancel()" in lost, "the conversation ends with the connection"
    assert "_timeout_handle.cancel()" in lost
    made = inspect.getsource(SMTP.connection_made)
    assert "create_task(\n                self._handle_client())" in made
