"""No module of the program or of a library is imported after the start: an upgrade replaces the files below the service.

The exception are imports in a `with late_import():`, which refuses them after an upgrade (senderproxy.late_import; each part
of the program that is loaded so is in test_parts). The statements are found in the source of all modules that `senderproxy run` loads; the standard library belongs to the
system's package of Python and is left out.
"""

import subprocess
import sys
from typing import Final

from tests.peers.packages import PROJECT

# Imports in functions that the running service does not reach: module (or package, with a dot) -> reason.
_BEFORE_OR_NEVER: Final = {
    "senderproxy.app": "the page's side of the service, and metrics, if they are on, before the start",
    "senderproxy.cli.main": "the module of the verb, before the start",
    "senderproxy.sent_copy.copies": "IMAP, if an account has copies, before the start; later if the first one gets some",
    "senderproxy.service.metrics": "the library of metrics, if they are on, before the start",
    "vault._keys": "keyrings, when the vault is opened at the start",
    "vault._seal": "passphrases, when the vault is opened at the start",
    "dns.": "asynchronous queries and other transports, which are not used; record types and updates are loaded",
    "pydantic.": "classes of models are complete when they are imported; deprecated methods and schemas are not used",
    "_distutils_hack.": "of the development environment",
}

_SCAN: Final = """
import ast, sys
from importlib.util import resolve_name
from pathlib import Path

import senderproxy.cli.main, senderproxy.cli.run, senderproxy.cli.serve, senderproxy.config.load
import senderproxy.accounts.access_tokens, senderproxy.accounts.usable_application
import senderproxy.dns_client.dnspython, senderproxy.signing.rsa_key, senderproxy.sent_copy.runner
import senderproxy.http_client.failures, senderproxy.footer.insertion, senderproxy.service.metrics, senderproxy.service.postgresql  # parts that are loaded late import nothing later

class Imports(ast.NodeVisitor):
    def __init__(self, package):
        self.package, self.depth, self.found = package, 0, []

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_With(self, node):
        if [ast.unparse(item.context_expr) for item in node.items] != ["late_import()"]:
            self.generic_visit(node)

    def visit_Import(self, node):
        self.add(*(alias.name for alias in node.names))

    def visit_ImportFrom(self, node):
        self.add(resolve_name("." * node.level + (node.module or ""), self.package))

    def visit_Call(self, node):
        if ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            self.add(ast.unparse(node))
        self.generic_visit(node)

    def add(self, *names):
        if self.depth:
            self.found += [name for name in names if name not in sys.modules]

count = 0
for name, module in sorted(sys.modules.items()):
    file = getattr(module, "__file__", None) or ""
    if file.endswith(".py") and name.partition(".")[0] not in sys.stdlib_module_names and name != "__main__":
        count += 1
        imports = Imports(name if Path(file).name == "__init__.py" else name.rpartition(".")[0])
        imports.visit(ast.parse(Path(file).read_text(encoding="utf-8")))
        for found in imports.found:
            if found.partition(".")[0] not in sys.stdlib_module_names:
                print(name, found)
print(count)
"""


def test_no_function_of_a_loaded_module_imports_one_that_is_not_loaded() -> None:
    *found, count = subprocess.run(
        [sys.executable, "-c", _SCAN], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert int(count) > 200
    late = [line for line in found if not _is_allowed(line.split()[0])]
    assert not late
    unused = {entry for entry in _BEFORE_OR_NEVER if not any(_matches(line.split()[0], entry) for line in found)}
    assert unused <= {"_distutils_hack."}


def _is_allowed(module: str) -> bool:
    return any(_matches(module, entry) for entry in _BEFORE_OR_NEVER)


def _matches(module: str, entry: str) -> bool:
    return f"{module}.".startswith(entry) if entry.endswith(".") else module == entry
