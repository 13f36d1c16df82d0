"""Words of each judgement, and their places in docs/operating.md."""

import re
from pathlib import Path

import pytest

from senderproxy.domain_records import wording
from senderproxy.domain_records.judgement import WEIGHTS, RecordProblem, Weight

DOCS = Path(__file__).parents[3] / "docs"
HEADINGS = re.findall(r"^### `(.+)`$", (DOCS / "operating.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("problem", RecordProblem)
def test_each_problem_has_words_and_each_that_matters_a_hint_and_a_heading(problem: RecordProblem) -> None:
    words = wording._WORDS[problem]
    assert bool(words.hint) is (WEIGHTS[problem] is not Weight.OK)
    if WEIGHTS[problem] in (Weight.ADVICE, Weight.WRONG):
        parts = (r"[^\n]*?".join(re.escape(part) for part in heading.split("…")) for heading in HEADINGS)
        assert any(re.search(part, words.text) for part in parts if part)
