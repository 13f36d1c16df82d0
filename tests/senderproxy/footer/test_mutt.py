"""Messages with their footer in mutt: it lists the same parts, and shows the footer once."""

from pathlib import Path

import pytest

from tests.peers.mutt import show
from tests.senderproxy.footer.reading import EURO, LATIN, MARK, visible, with_footer
from tests.senderproxy.footer.shapes import SHAPES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("order", ["text/plain text/html", "text/html text/plain"])
@pytest.mark.parametrize("footer", [LATIN, EURO], ids=["Latin", "Euro"])
def test_mutt_lists_the_same_parts_and_shows_the_footer(tmp_path: Path, footer, order: str) -> None:
    changed = {shape.name: with_footer(shape.raw, footer) for shape in SHAPES}
    after = {name: result for name, result in changed.items() if isinstance(result, bytes)}
    assert len(after) > 120
    before = {shape.name: shape.raw for shape in SHAPES if shape.name in after}
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    old = show(before, tmp_path / "before", order.split())
    new = show(after, tmp_path / "after", order.split())
    wrong: dict[str, object] = {}
    for name in after:
        if old[name].parts != new[name].parts:
            wrong[name] = (old[name].parts, new[name].parts)
        count = visible(new[name].text).count(MARK)
        if count != 1:
            wrong[name] = count
    assert wrong == {}
