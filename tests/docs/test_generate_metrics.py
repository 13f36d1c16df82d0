"""docs/metrics.md has every series."""

from pathlib import Path

from docs.generate_metrics import render_metrics
from senderproxy.metrics.series import SERIES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_metrics(), "run `make docs`"


def test_every_series_is_on_the_page() -> None:
    page = render_metrics()
    for one in SERIES:
        assert f"| `{one.name}` | {one.kind} | " in page
        assert one.text in page
