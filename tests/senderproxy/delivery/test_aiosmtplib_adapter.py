"""The private name of aiosmtplib in use is listed, exists in the installed version, and is the only one."""

import ast
import asyncio
import tomllib
from pathlib import Path

import aiosmtplib
import pytest
from aiosmtplib.protocol import SMTPProtocol

import senderproxy.delivery
from senderproxy.delivery.aiosmtplib_adapter import (
    PRIVATE_NAMES,
    UnsupportedAiosmtplib,
    check_aiosmtplib,
    has_unread_octets,
)

PROJECT = Path(__file__).parents[3]
PACKAGE = Path(senderproxy.delivery.__path__[0])


def private_names(path: Path) -> set[str]:
    """Private attributes that a module reads from an object other than its own `self`, by attribute or by getattr."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name):
                names.add(name)
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                names.add(name)
            case _:
                pass
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_every_private_name_in_use_is_listed_and_every_listed_name_is_in_use() -> None:
    modules = [path for path in PACKAGE.glob("*.py") if "aiosmtplib" in path.read_text(encoding="utf-8")]
    assert len(modules) >= 3
    assert set().union(*map(private_names, modules)) == PRIVATE_NAMES


def test_the_test_finds_a_private_name(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("smtp._connected\ngetattr(smtp.protocol, '_writer', None)\nself._own\n")
    assert private_names(module) == {"_connected", "_writer"}


def test_the_installed_version_is_supported() -> None:
    check_aiosmtplib()
    assert aiosmtplib.__version__.startswith("5.")


@pytest.mark.parametrize("version", ["4.0.2", "5.1.2", "6.0.0", "10.1"])
def test_another_version_stops_the_start(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiosmtplib, "__version__", version)
    with pytest.raises(UnsupportedAiosmtplib, match=version) as stopped:
        check_aiosmtplib()
    assert "pip install" in stopped.value.hint


def test_a_version_without_the_name_stops_the_start() -> None:
    with pytest.raises(UnsupportedAiosmtplib, match="_gone_in_the_next_version"):
        check_aiosmtplib(PRIVATE_NAMES | {"_gone_in_the_next_version"})


def test_the_supported_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "aiosmtplib>=5.1.3,<6" in project["dependencies"]


@pytest.mark.parametrize(("received", "unread"), [(b"220 hello\r\n", False), (b"220 hello\r\n250 more\r\n", True)])
async def test_octets_beyond_the_reply_are_seen(received: bytes, unread: bool) -> None:
    client = aiosmtplib.SMTP(hostname="mx.example")
    assert not has_unread_octets(client)
    client.protocol = SMTPProtocol()
    client.protocol.connection_made(asyncio.Transport())
    client.protocol.data_received(received)
    assert has_unread_octets(client) is unread
