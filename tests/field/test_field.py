"""The cases of the field: inputs of real providers, servers, devices and tools."""

from pathlib import Path

import pytest

from tests.field.__main__ import CASES, main
from tests.field.run import run_file

pytestmark = pytest.mark.slow

_PATHS = sorted(CASES.glob("*.toml"))
_MINIMAL = 'title = "a message"\n[[step]]\ndo = "send"\nreply = "{reply}"\n[expect]\nreceived = 1\nlog = "{log}"\n'


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path.stem)
async def test_a_case_of_the_field_holds(path: Path) -> None:
    outcome = await run_file(path)
    assert outcome.holds, str(outcome)


def test_the_runner_reports_each_case_and_fails_if_one_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-good.toml").write_text(_MINIMAL.format(reply="^250", log="account=anna"))
    (tmp_path / "b-bad.toml").write_text(_MINIMAL.format(reply="^550", log="account=anna"))
    (tmp_path / "c-unusable.toml").write_text('title = "x"\nstep = []\nstpe = 1\n')
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "PASS  a-good.toml: a message\n" in printed
    assert "FAIL  b-bad.toml: a message\n        step 1 should match /^550/\n        | step 1: 250 " in printed
    assert "FAIL  c-unusable.toml: unusable\n        c-unusable.toml: unknown keys in the case: stpe\n" in printed
    assert "1 of 3 cases hold" in printed


def test_the_runner_runs_named_cases_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(_MINIMAL.format(reply="^250", log="account=anna"))
    assert main([str(tmp_path), "b", "--jobs", "1"]) == 0
    assert capsys.readouterr().out == "PASS  b.toml: a message\n1 of 1 cases hold\n"
