"""Verification of DKIM signatures by Mail::DKIM and OpenDKIM, each with the resolver of its own.

As a program, in a mount and a network namespace of its own, it verifies all messages of a folder, and prints what each
verifier said about the signature of the domain given.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.peers.name_server import NameServer
from tests.peers.packages import PROJECT

COMMANDS: Final = ("unshare", "ip", "mount", "perl", "opendkim-testmsg")
_PERL: Final = r"""
use strict; use warnings;
use Mail::DKIM::Verifier;
my $domain = shift @ARGV;
for my $file (@ARGV) {
    open(my $in, "<:raw", $file) or die "$file: $!";
    local $/; my $text = <$in>; close $in;
    my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT($text);
    $verifier->CLOSE();
    my @results = map { $_->result_detail } grep { $_->domain eq $domain } $verifier->signatures;
    print join("\t", $file, $results[0] // "none"), "\n";
}
"""


def verify(folder: Path, messages: Sequence[bytes], records: Mapping[str, str], domain: str) -> list[dict[str, bool]]:
    """For each message: what each verifier says, by its name. `records`: the TXT records by their names."""
    folder.mkdir()
    for number, raw in enumerate(messages):
        (folder / f"{number:04}.eml").write_bytes(raw)
    (folder / "records.json").write_text(json.dumps(records))
    command = [
        "unshare",
        "--mount",
        "--net",
        sys.executable,
        "-m",
        "tests.journeys.dkim_verifiers",
        str(folder),
        domain,
    ]
    done = subprocess.run(command, cwd=PROJECT, timeout=300, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, bool]] = json.loads(done.stdout)
    assert len(found) == len(messages)
    return found


def main() -> None:
    folder, domain = Path(sys.argv[1]), sys.argv[2]
    records = json.loads((folder / "records.json").read_text())
    files = sorted(str(file) for file in folder.glob("*.eml"))
    with tempfile.TemporaryDirectory() as settings:
        conf = Path(settings, "resolv.conf")
        conf.write_text("nameserver 127.0.0.1\n")
        for command in (("ip", "link", "set", "lo", "up"), ("mount", "--bind", str(conf), "/etc/resolv.conf")):
            if os.spawnvp(os.P_WAIT, command[0], command):
                sys.exit(f"failed: {' '.join(command)}")
        texts = {
            (name, "TXT"): " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
            for name, text in records.items()
        }
        with NameServer("127.0.0.1", texts):
            perl = subprocess.run(["perl", "-e", _PERL, domain, *files], check=True, capture_output=True, text=True)
            said = dict(line.split("\t") for line in perl.stdout.splitlines())
            print(
                json.dumps(
                    [{"Mail::DKIM": said[file].startswith("pass"), "OpenDKIM": _opendkim(file)} for file in files]
                )
            )


def _opendkim(file: str) -> bool:
    """It says nothing about a message whose signature it has verified."""
    with Path(file).open("rb") as message:
        done = subprocess.run(
            ["opendkim-testmsg"], stdin=message, check=False, capture_output=True, text=True, timeout=60
        )
    return done.returncode == 0 and not done.stdout + done.stderr


if __name__ == "__main__":
    main()
