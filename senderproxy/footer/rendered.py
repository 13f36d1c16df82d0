"""A footer for one author: its text and its HTML. PURE.

Guarantees: what replaces a placeholder is text in HTML, whatever is in it.
Not here: the footers of the configuration (footer.footer), the insertion (footer.insertion).
"""

import re
from dataclasses import dataclass
from html import escape
from typing import Final

from senderproxy.footer.footer import Footer
from senderproxy.footer.line_search import first_line
from senderproxy.footer.text_view import visible_text

_PLACEHOLDER: Final = re.compile(r"\{(name|address)\}")


@dataclass(frozen=True, slots=True)
class RenderedFooter:
    """A footer for one author: the lines of its text, its HTML, and the first line of each."""

    lines: tuple[str, ...]
    html: str
    first_line: str
    first_html_line: str


def render(footer: Footer, name: str, address: str) -> RenderedFooter:
    """The footer for an author; without a name the address is in place of it."""
    values = {"name": name or address, "address": address}
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], footer.text)
    lines = tuple(text.strip("\r\n").splitlines())
    if footer.html:
        html = _PLACEHOLDER.sub(lambda found: escape(values[found[1]]), footer.html).strip()
    else:
        html = "<p>{}</p>".format("<br>\n".join(map(escape, lines)))
    html = "\r\n".join(html.splitlines())
    return RenderedFooter(lines, html, first_line(text), first_line(visible_text(html)))
