"""Dataclasses with slots whose methods are shared: less memory, the same behaviour."""

import os
import subprocess
import sys

from senderproxy.cli.exit_codes import EX_CONFIG
from tests.peers.packages import PROJECT

_DOUBLED = """
import gc
from collections import Counter

def doubled():
    gc.collect()
    classes = [one for one in gc.get_objects() if issubclass(type(one), type) and "__dataclass_fields__" in vars(one)]
    counts = Counter((one.__module__, one.__qualname__) for one in classes)
    return len(counts), sum(count > 1 for count in counts.values())
"""

_SERVICE = f"""
{_DOUBLED}
import sys
from senderproxy.cli.main import main
code = main(["--config", "/nonexistent/senderproxy.toml", "run"])  # loads the service while another process reads it
print(code, "senderproxy.app" in sys.modules, *doubled())
"""

_CLASSES = """
import copy, pickle, sys, weakref
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = field(default=2, compare=False)
    secret: str = field(default="hidden", repr=False)

@dataclass(frozen=True, slots=True)
class Named(Point):
    name: "str | None" = None

@dataclass(slots=True)
class Changing:
    value: object
    others: list = field(default_factory=list)

@dataclass(frozen=True, slots=True)
class WithRepr:
    value: int

    def __repr__(self):
        return f"<{self.value}>"

@dataclass(frozen=True, slots=True, repr=False)
class WithoutRepr:
    value: int

@dataclass(frozen=True, slots=True, weakref_slot=True)
class Referenced:
    value: int

@dataclass(frozen=True)
class WithoutSlots:
    value: int

class Plain(Point):
    __slots__ = ()

def attempt(action):
    try:
        return action()
    except Exception as error:
        return type(error).__name__, str(error)

circle = Changing(1)
circle.others.append(circle)
values = [Point(1), Named(1, 3, "x", "anna"), circle, WithRepr(4), WithoutSlots(5), Plain(6), Referenced(7)]
for value in values:
    name = next(iter(fields(value))).name
    print(repr(value), value == copy.copy(value), attempt(lambda: hash(value)), value.__match_args__)
    print(attempt(lambda: setattr(value, name, 9)), attempt(lambda: getattr(value, name)))
    print(attempt(lambda: delattr(value, name)), attempt(lambda: getattr(value, name)))
for value in (*values[:2], *values[3:]):
    print(replace(value), asdict(value), pickle.loads(pickle.dumps(value)) == value)
print(repr(WithoutRepr(1)).startswith("<__main__.WithoutRepr object"), weakref.ref(values[-1])() is values[-1])
print(hasattr(Point(1), "__dict__"), attempt(lambda: Changing(1).missing))
"""


def _run(program: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # hashes of texts are the same in each process
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_the_service_has_each_of_its_dataclasses_once() -> None:
    code, has_service, classes, doubled = _run(_SERVICE)[-1].split()
    assert (int(code), has_service) == (EX_CONFIG, "True")
    assert int(classes) > 300
    assert int(doubled) <= 10  # some are loaded before `run` is chosen; without the sharing nearly all are doubled


def test_a_class_behaves_as_without_it() -> None:
    share = "from senderproxy.control.dataclass_memory import share_methods_of_dataclasses as share\nshare()\nshare()\n"
    usual = _run(_CLASSES)
    assert len(usual) > 20
    assert _run(share + _CLASSES) == usual


def test_dataclasses_has_the_function_that_is_replaced() -> None:
    program = """
import dataclasses
from senderproxy.control.dataclass_memory import share_methods_of_dataclasses
before = dataclasses._add_slots
share_methods_of_dataclasses()
print(dataclasses._add_slots is not before)
"""
    assert _run(program) == ["True"]
