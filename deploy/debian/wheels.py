"""The libraries of the package: wheels of the pinned versions, one set for all releases of Debian and Ubuntu.

Guarantees: pure wheels and those of the stable ABI are there once, the others once for each Python. A library without a
wheel for one of the Pythons ends the build.
Not here: the package's files (package), their text (pages).
"""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = PROJECT / ".cache" / "wheels"
# Debian 12, Ubuntu 24.04, Debian 13
PYTHONS: Final = ("3.11", "3.12", "3.13")
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
# The C library of Debian 12 is 2.36.
_PLATFORMS: Final = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
# Licences that the metadata of a wheel does not name; the wheel has the text.
_UNNAMED: Final = {"IMAPClient": "BSD-3-Clause"}
_SOURCES: Final = (".pyi", ".c", ".h", ".pyx", ".pxd", ".pxi", ".typed")


@dataclass(frozen=True)
class Wheel:
    """A library as it is installed.

    Fields: `folder` the folder of the package that it goes to (`libraries`, or `cp311` and its like), `licences` the
    texts of its licences by file name.
    """

    path: Path
    folder: str
    name: str
    version: str
    licence: str
    homepage: str
    licences: tuple[tuple[str, str], ...]


def fetch(architecture: str) -> list[Wheel]:
    """Return the wheels of the pinned versions for a Debian architecture, sorted by folder and name; asks PyPI."""
    found: dict[tuple[str, str], Wheel] = {}
    for python in PYTHONS:
        folder = CACHE / architecture / python
        _download(python, MACHINES[architecture], folder)
        for path in sorted(folder.glob("*.whl")):
            wheel = _read(path)
            found.setdefault((wheel.folder, wheel.name), wheel)
    _each_python_has_all(found)
    return [found[key] for key in sorted(found)]


def files(wheel: Wheel) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file that is needed at run time, in order."""
    with zipfile.ZipFile(wheel.path) as archive:
        for entry in sorted(archive.namelist()):
            if not entry.endswith("/") and _needed(entry):
                yield entry, archive.read(entry)


def _needed(entry: str) -> bool:
    top, _, rest = entry.partition("/")
    if not top.endswith(".dist-info"):
        # importlib.metadata reads dist-info; tests, sources of compiled modules and typing stubs are read by nothing
        hidden = "/." in f"/{entry}"
        return not hidden and "/tests/" not in f"/{entry}" and not entry.endswith(_SOURCES)
    return rest in ("METADATA", "entry_points.txt")


def _download(python: str, machine: str, folder: Path) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tag = "cp" + python.replace(".", "")
    if (folder / "complete").exists() and (folder / "complete").stat().st_mtime > _newest_pin():
        return
    for old in folder.glob("*.whl"):
        old.unlink()
    platforms = [part for platform in _PLATFORMS for part in ("--platform", f"{platform}_{machine}")]
    arguments = [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python}",
        f"--abi={tag}",
        "--abi=abi3",
    ]
    _pip(["download", *arguments, *platforms, "--dest", str(folder), *_pins(), *_wanted(project)])
    (folder / "complete").touch()


def _wanted(project: Mapping[str, Any]) -> list[str]:
    """The libraries of the service and of its page."""
    return [*project["dependencies"], *project["optional-dependencies"]["web"]]


def _newest_pin() -> float:
    return max((PROJECT / name).stat().st_mtime for name in ("pyproject.toml", "constraints.txt"))


def _pins() -> list[str]:
    return ["--constraint", str(PROJECT / "constraints.txt")]


def build_program(folder: Path) -> Path:
    """Build the wheel of this project in the folder and return its path."""
    _pip(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT)])
    (wheel,) = folder.glob("senderproxy-*.whl")
    return wheel


def _pip(arguments: Sequence[str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check", *arguments], check=True
    )


def _read(path: Path) -> Wheel:
    interpreter, abi, _platform = path.stem.split("-")[-3:]
    pure = interpreter.startswith("py")
    with zipfile.ZipFile(path) as archive:
        (metadata,) = (
            name for name in archive.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
        )
        fields = BytesParser().parsebytes(archive.read(metadata))
        info = metadata.rpartition("/")[0]
        licences = tuple(
            (name.rpartition("/")[2], archive.read(name).decode("utf-8").strip())
            for name in sorted(archive.namelist())
            if name.startswith(info) and _is_licence(name.rpartition("/")[2])
        )
    return Wheel(
        path=path,
        folder="libraries" if pure or abi == "abi3" else abi,
        name=str(fields["Name"]),
        version=str(fields["Version"]),
        licence=_UNNAMED.get(str(fields["Name"]))
        or _licence(fields.get("License-Expression"), fields.get("License"), fields.get_all("Classifier", [])),
        homepage=_homepage(fields.get("Home-page"), fields.get_all("Project-URL", [])),
        licences=licences,
    )


def _is_licence(name: str) -> bool:
    return name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS"))


def _licence(expression: str | None, text: str | None, classifiers: Sequence[str]) -> str:
    if expression:
        return expression
    if text and "\n" not in text:
        return text
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    if not named:
        raise SystemExit("a library names no licence")
    return ", ".join(named)


def _homepage(page: str | None, urls: Sequence[str]) -> str:
    if page and page != "UNKNOWN":
        return page
    pages = [url.partition(", ")[2] for url in urls]
    return pages[0] if pages else ""


def _each_python_has_all(found: dict[tuple[str, str], Wheel]) -> None:
    compiled = {name for folder, name in found if folder != "libraries"}
    for name in sorted(compiled):
        missing = [python for python in PYTHONS if ("cp" + python.replace(".", ""), name) not in found]
        if missing:
            raise SystemExit(f"{name} has no wheel for Python {', '.join(missing)}")
