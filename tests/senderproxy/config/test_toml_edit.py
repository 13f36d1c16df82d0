"""Changes of single settings: the file stays as it was but for their values."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.config.example import render_config
from senderproxy.config.toml_edit import EditFailed, with_settings
from senderproxy.config.toml_lines import SettingPath

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
