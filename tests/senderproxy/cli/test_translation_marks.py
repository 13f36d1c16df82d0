"""Translation marks of every text that the command line prints."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from senderproxy import cli

SOURCES = sorted(Path(cli.__file__).parent.glob("*.py"))
MARKS = {"_", "N_", "ngettext"}
PROSE = re.compile(r"[^\W\d_]{2,}[,.:;]? +[^\W\d_({<]")  # two words with a blank between them
COMMAND = re.compile(r"^(sudo |\$ )?(senderproxy|systemctl|chmod|chown|swaks)\b")  # typed as it is in every language
# What no person reads as a text of this program: content of test messages, a configuration, SMTP replies.
NOT_MARKED = {
    ("account_login_check.py", "describe"),  # cuts off the hint of an SMTP reply
    ("demo.py", "_compose"),
    ("demo.py", "_commands_to_try"),
    ("demo.py", "_watch"),
    ("oauth_instructions.py", "mailbox_steps"),  # commands of PowerShell
    ("vault_seal.py", "_install_drop_in"),  # a comment in a file of systemd
    ("account_table.py", "<module>"),
    ("account_columns.py", "<module>"),  # names of the columns, compared with the file
}


class Scan(ast.NodeVisitor):
    """Collects the texts of a module that are not marked, and the marks that hold no plain text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unmarked: list[str] = []
        self.wrong_marks: list[str] = []
        self.marked = 0
        self._functions = ["<module>"]

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node.name)
        for child in _without_docstring(node):
            self.visit(child)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  ast calls it by this name

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for child in _without_docstring(node):
            self.visit(child)

    def visit_Module(self, node: ast.Module) -> None:
        for child in _without_docstring(node):
            self.visit(child)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in MARKS:
            self._check_mark(node)
            return
        headings = isinstance(node.func, ast.Name) and node.func.id == "print_table" and node.args
        if headings and isinstance(node.args[0], ast.Tuple):
            self.unmarked += [self._at(each) for each in node.args[0].elts if isinstance(each, ast.Constant)]
        self.unmarked += [
            self._at(each.value)
            for each in node.keywords
            if each.arg in {"help", "description", "epilog"} and isinstance(each.value, ast.Constant | ast.JoinedStr)
        ]
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._check_text(node, node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        self._check_text(node, text)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def _check_text(self, node: ast.expr, text: str) -> None:
        excepted = (self.name, self._functions[-1]) in NOT_MARKED
        if PROSE.search(text) and not text.isupper() and not COMMAND.match(text) and not excepted:
            self.unmarked.append(self._at(node))

    def _check_mark(self, node: ast.Call) -> None:
        texts = node.args[:2] if isinstance(node.func, ast.Name) and node.func.id == "ngettext" else node.args
        self.marked += 1
        for text in texts:
            plain = isinstance(text, ast.Constant) and isinstance(text.value, str)
            # `_(name)` and `_(row.text)` translate a constant that N_ marked where it is written.
            if not plain and not isinstance(text, ast.Name | ast.Attribute | ast.Subscript):
                self.wrong_marks.append(self._at(text))
        for other in node.args[2:]:
            self.visit(other)

    def _at(self, node: ast.expr) -> str:
        return f"{self.name}:{node.lineno}: {ast.unparse(node)}"


def _without_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module,
) -> Iterator[ast.AST]:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.args
    yield from body


def scanned(source: str, name: str = "example.py") -> Scan:
    scan = Scan(name)
    scan.visit(ast.parse(source))
    return scan


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_texts_are_marked_and_marks_hold_plain_texts(path: Path) -> None:
    scan = scanned(path.read_text(encoding="utf-8"), path.name)
    assert scan.unmarked == []
    assert scan.wrong_marks == []


def test_the_command_line_has_texts_to_translate() -> None:
    assert sum(scanned(path.read_text(encoding="utf-8")).marked for path in SOURCES) > 300


@pytest.mark.parametrize(
    "source",
    [
        'print("The queue is empty.")',
        'print(f"Account {name} is removed.")',
        'raise UsageError("Invalid address.")',
        'raise UsageError(_("Invalid address."), hint="Use another one.")',
        'Finding(Level.OK, "vault", f"it opens, {count} accounts are readable")',
        'parser.add_argument("--all", help="everything")',
        'print_table(("account", _("state")), rows)',
        'input("Password, please: ")',
        'x = {"a": ["The queue is empty."]}',
    ],
)
def test_an_unmarked_text_is_found(source: str) -> None:
    assert len(scanned(source).unmarked) == 1


@pytest.mark.parametrize("source", ['_(f"Account {name}.")', '_("Account " + name)', 'ngettext("one", f"{n}", n)'])
def test_a_mark_around_anything_but_a_plain_text_is_found(source: str) -> None:
    assert len(scanned(source).wrong_marks) == 1


@pytest.mark.parametrize(
    "source",
    [
        'print(_("The queue is empty."))',
        'print(ngettext("{count} message is held.", "{count} messages are held.", 2).format(count=2))',
        'hint = f"senderproxy account set-password {name}"',
        '"""The docstring of a module."""',
        'entry = {"display_name": name}',
    ],
)
def test_a_marked_text_and_a_command_are_accepted(source: str) -> None:
    scan = scanned(source)
    assert (scan.unmarked, scan.wrong_marks) == ([], [])
