"""Changes of single settings: the file stays as it was but for their values."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.config.example import render_config
from senderproxy.config.toml_edit import EditFailed, TomlValue, with_settings
from senderproxy.config.toml_lines import SettingPath

ADDRESS: SettingPath = ("listeners", 0, "address")
ALLOW: SettingPath = ("listeners", 0, "allow")
TEXT = """\
# our relay
[vault]
path = "accounts.vault"   # beside this file
  unlock='key-file:vault.key'

[[listeners]]
key = "first.pem"
[[listeners]]
allow = [
  "192.168.1.0/24", # the office
]
key = "a \\"quoted\\" # name"
"""


def test_the_values_change_and_nothing_else() -> None:
    changed = with_settings(
        TEXT,
        {
            ("vault", "path"): "/new/ä.vault",
            ("vault", "unlock"): 'key-file:/new/"key"',
            ("listeners", 1, "key"): "/new/key.pem",
            ("service", "control_socket"): "/new/control.sock",
        },
    )
    assert (
        changed
        == TEXT.replace('"accounts.vault"', '"/new/ä.vault"')
        .replace("'key-file:vault.key'", '"key-file:/new/\\"key\\""')
        .replace('"a \\"quoted\\" # name"', '"/new/key.pem"')
        + '\n[service]\ncontrol_socket = "/new/control.sock"\n'
    )


def test_a_missing_setting_is_added_to_its_section() -> None:
    assert with_settings('[vault]\nunlock = "passphrase"\n', {("vault", "path"): "/x"}) == (
        '[vault]\npath = "/x"\nunlock = "passphrase"\n'
    )


def test_the_file_of_setup() -> None:
    text = render_config(hostname="a.example", vault="/v", unlock="passphrase")
    changed = with_settings(text, {("vault", "path"): "/w", ("spool", "directory"): "/s"})
    settings = tomllib.loads(text)
    settings["vault"]["path"], settings["spool"]["directory"] = "/w", "/s"
    assert tomllib.loads(changed) == settings
    assert changed.count("#") == text.count("#")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('vault = {path = "x"}\n', ("vault", "path")),
        ('[vault]\npath = """\nx"""\n', ("vault", "path")),
        ("[vault]\npath = 5\n", ("vault", "path")),
        ('vault.path = "x"\n[vault.other]\n', ("vault", "unlock")),
        ('vault = "x"\n', ("vault", "path")),
        ("[[listeners]]\n", ("listeners", 1, "key")),
        ("[listeners]\n", ("listeners", 0, "key")),
        ("[vault]\npath = \n", ("vault", "path")),
    ],
)
def test_a_file_that_cannot_be_changed_so_is_refused(text: str, path: SettingPath) -> None:
    try:
        changed = with_settings(text, {path: "y"})
    except EditFailed:
        return
    value: Any = tomllib.loads(changed)
    for part in path:
        value = value[part]
    assert value == "y"


@given(st.text(alphabet=st.sampled_from("[]{}=.\"'\\#\n ,abvaultpath\x7fä"), max_size=80), st.text(max_size=10))
def test_any_text_is_changed_rightly_or_refused(text: str, value: str) -> None:
    try:
        changed = with_settings(text, {("vault", "path"): value})
    except EditFailed:
        return
    assert tomllib.loads(changed)["vault"]["path"] == value


@pytest.mark.parametrize(
    ("text", "path", "value", "changed"),
    [
        ('[a]\nx = "1"\n', ("a", "x"), "2", '[a]\nx = "2"\n'),
        ('[a]\nx = "1" # why\n', ("a", "x"), "2", '[a]\nx = "2" # why\n'),
        ('[a]\nx = "#1" # a "#" in it\r\ny = 1\r\n', ("a", "x"), "2", '[a]\nx = "2" # a "#" in it\r\ny = 1\r\n'),
        ("[a]\nx = [\n  1, # one\n  2,\n]\ny = 1\n", ("a", "x"), ["b"], '[a]\nx = ["b"]\ny = 1\n'),
        ('[a]\nx = """\n[a]\ny = 1\n"""\ny = 2\n', ("a", "y"), 3, '[a]\nx = """\n[a]\ny = 1\n"""\ny = 3\n'),
        ("[a]\ny = 1\n", ("a", "x"), True, "[a]\nx = true\ny = 1\n"),
        ("[a]\ny = 1", ("b", "x"), 5, "[a]\ny = 1\n\n[b]\nx = 5\n"),
        ("[a.b]\ny = 1\n", ("a", "c", "x"), 5, "[a.b]\ny = 1\n\n[a.c]\nx = 5\n"),
        ("", ADDRESS, "127.0.0.1:25", '[[listeners]]\naddress = "127.0.0.1:25"\n'),
        ("[[listeners]]\nx=1\n[[listeners]]\nx=2\n", ADDRESS, "b", '[[listeners]]\naddress = "b"\nx=1\n[[listeners]]\nx=2\n'),
        ('[providers."a b"]\nhost = "x"\n', ("providers", "a b", "host"), "y", '[providers."a b"]\nhost = "y"\n'),
        ('[a]\n"x" = 1\n', ("a", "x"), 2, '[a]\n"x" = 2\n'),
    ],
)  # fmt: skip
def test_only_the_named_setting_changes(text: str, path: SettingPath, value: TomlValue, changed: str) -> None:
    assert with_settings(text, {path: value}) == changed


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a = {x = 1}\n", ("a", "x")),
        ("listeners = [{address = 'a'}]\n", ADDRESS),
        ("[a]\nx.y = 1\n", ("a", "x", "z")),
    ],
)
def test_an_unusual_notation_is_refused_and_the_line_to_write_is_named(text: str, path: SettingPath) -> None:
    with pytest.raises(EditFailed) as refused:
        with_settings(text, {path: "b"})
    assert f'{path[-1]} = "b"' in refused.value.hint


@given(st.text(), st.lists(st.text(max_size=20), max_size=4))
def test_each_value_can_be_read_back(address: str, allow: list[str]) -> None:
    text = render_config(hostname="a.example", vault="v", unlock="passphrase")
    changed = with_settings(text, {ADDRESS: address, ALLOW: allow, ("providers", address, "host"): "x"})
    document = tomllib.loads(changed)
    assert (document["listeners"][0]["address"], document["listeners"][0]["allow"]) == (address, allow)
    assert document["providers"] == {address: {"host": "x"}}
    kept = [line for line in changed.splitlines() if line in text.splitlines()]
    assert len(kept) >= len(text.splitlines()) - 2
