"""Line numbers of sections and settings."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.config.toml_lines import line_of, locate_settings

TEXT = '''\
# a comment = no setting
top = 1

[vault]
path = "x" # with = and [ in a comment
"unlock" = 'passphrase'

[[listeners]]
allow = [
  "10.0.0.0/8",  # not = a setting
  "[",
]
name = """
address = "no setting"
[nor.a.section]
"""

[[listeners]]
name = \'\'\'one line\'\'\'
address = "127.0.0.1:25"

[providers."web.de"]
port = 25
limits.inner = 3
[ providers . x ]
ports = { a = 1,
  b = 2 }
host="h"
'''


def test_every_setting_has_its_line() -> None:
    assert dict(locate_settings(TEXT)) == {
        ("top",): 2,
        ("vault",): 4,
        ("vault", "path"): 5,
        ("vault", "unlock"): 6,
        ("listeners", 0): 8,
        ("listeners", 0, "allow"): 9,
        ("listeners", 0, "name"): 13,
        ("listeners", 1): 18,
        ("listeners", 1, "name"): 19,
        ("listeners", 1, "address"): 20,
        ("providers", "web.de"): 22,
        ("providers", "web.de", "port"): 23,
        ("providers", "web.de", "limits", "inner"): 24,
        ("providers", "x"): 25,
        ("providers", "x", "ports"): 26,
        ("providers", "x", "host"): 28,
    }


def test_a_missing_setting_has_the_line_of_its_section() -> None:
    lines = locate_settings(TEXT)
    assert line_of(("listeners", 1, "key"), lines) == 18
    assert line_of(("listeners", 0, "allow", 1), lines) == 9
    assert line_of(("identity", "hostname"), lines) is None
    assert line_of((), lines) is None


def test_a_section_in_a_list_belongs_to_its_last_entry() -> None:
    assert locate_settings("[[a]]\n[[a]]\n[a.b]\nc = 1\n")[("a", 1, "b", "c")] == 4


@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(TEXT.splitlines(keepends=True))).map("".join)))
def test_any_text_is_scanned_without_an_exception(text: str) -> None:
    locate_settings(text)


@pytest.mark.parametrize("shape", ["[", "a=", '"', "a.", "'''\n", "a = [\n", "\\", " "])
def test_a_long_file_is_scanned_in_linear_time(shape: str) -> None:
    locate_settings(shape * (100_000 // len(shape)))


def test_the_text_of_these_tests_is_toml() -> None:
    tomllib.loads(TEXT.replace("ports = { a = 1,\n  b = 2 }", "ports = { a = 1, b = 2 }"))
