"""DKIM signatures (RSA-2048, relaxed/relaxed) by senderproxy and by dkimpy, in interleaved rounds.

    python -m benchmarks.dkim_signing [--rounds 15] [--megabytes 25]

Small: a message of 4 KB with a usual header section, in memory; time of one signature, median of each round. Large:
each signature is a process of its own; time, and peak memory above that of the process before it signs. senderproxy
reads the body from a file in blocks, as it does in the service; dkimpy takes the message as one value. Text without
runs of blanks, text with some in every line, and base64 as of an attachment. Before anything is measured, dkimpy
verifies a signature of each.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dkim

from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.dkim.sign import sign
from senderproxy.domain_records.own_key import record_text
from senderproxy.mail.dot_stuffing import remove_dots
from senderproxy.mail.header import HeaderSection
from senderproxy.signing.rsa_key import load_own_key, make_key

BLOCK = 64 * 1024  # octets, as the service reads a body on a disk
FIELDS = [b"From", b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"MIME-Version", b"Content-Type"]
HEADER = (
    b"Received: from pc17.firma.example ([192.168.1.17])\r\n\tby relay.firma.example with ESMTP id 4mXw7Yk2pQ;\r\n"
    b"\tSun, 29 Nov 2026 12:00:00 +0100\r\n"
    b"From: Anna Berg <anna@firma.example>\r\nTo: Kunde <kunde@laden.example>,\r\n Lager <lager@laden.example>\r\n"
    b"Cc: bert@firma.example\r\nSubject: =?utf-8?q?Angebot_f=C3=BCr_November?=\r\n"
    b"Date: Sun, 29 Nov 2026 12:00:00 +0100\r\nMessage-ID: <4mXw7Yk2pQ@firma.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n"
    b"X-Mailer: Thunderbird\r\n\r\n"
)
LINES = {
    "text": b"Sehr geehrte Damen und Herren, anbei finden Sie unser Angebot vom November.\r\n",
    "blanks": b"Pos. 1    Schrauben M8      100 Stueck       12,50 EUR  \t netto\r\n",
    "base64": b"JVBERi0xLjcKJeLjz9MKMSAwIG9iago8PC9UeXBlL0NhdGFsb2cvUGFnZXMgMiAwIFI+PgplbmRv\r\n",
}


def keys(pem: str) -> tuple[SigningKey, KeyRing]:
    private = load_own_key(pem)
    key = SigningKey("firma.example", "sp1", private.public_octets(), private.sign_rs256, private.verify_rs256)
    return key, KeyRing({key.domain: key}, {key.domain: [key]})


def blocks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def sign_with_dkimpy(raw: bytes, pem: bytes) -> bytes:
    return bytes(
        dkim.sign(raw, b"sp1", b"firma.example", pem, canonicalize=(b"relaxed", b"relaxed"), include_headers=FIELDS)
    )


def sign_small(pem: str, body: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    key, ring = keys(pem)
    raw, octets = HEADER + body, pem.encode()

    def ours() -> HeaderSection:
        header = HeaderSection(HEADER)
        return sign(key, ring, header, header, remove_dots([body]), datetime.now(UTC))

    records = {f"{key.name}.".encode(): record_text(key.public).encode()}
    for signed in (ours().raw + body, sign_with_dkimpy(raw, octets) + raw):
        if not dkim.verify(signed, dnsfunc=lambda name, **_: records.get(name)):
            sys.exit("a signature is not valid")
    return ours, lambda: sign_with_dkimpy(raw, octets)


def median_of(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def peak_octets() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def sign_large(way: str, pem_file: Path, body_file: Path) -> None:
    """In a process of its own: print the seconds and the octets of memory."""
    pem = pem_file.read_text()
    key, ring = keys(pem)
    sign(key, ring, HeaderSection(HEADER), HeaderSection(HEADER), [b"x\r\n"], datetime.now(UTC))
    sign_with_dkimpy(HEADER + b"x\r\n", pem.encode())
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, begin = peak_octets(), time.perf_counter()
    if way == "dkimpy":
        sign_with_dkimpy(HEADER + body_file.read_bytes(), pem.encode())
    else:
        header = HeaderSection(HEADER)
        sign(key, ring, header, header, remove_dots(blocks_of(body_file)), datetime.now(UTC))
    print(time.perf_counter() - begin, peak_octets() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--megabytes", type=int, default=25)
    parser.add_argument("--large", nargs=3, metavar=("WAY", "KEY", "BODY"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.large:
        sign_large(chosen.large[0], Path(chosen.large[1]), Path(chosen.large[2]))
        return
    pem = make_key().reveal_pem()
    for kind, line in LINES.items():
        ours, theirs = sign_small(pem, line * ((4096 - len(HEADER)) // len(line)))
        rounds = [(median_of(ours, 40), median_of(theirs, 10)) for _ in range(chosen.rounds)]
        own, other = (statistics.median(times) for times in zip(*rounds, strict=True))
        ratio = statistics.median(other / own for own, other in rounds)
        print(f"4 KB {kind}: senderproxy {own * 1e3:.2f} ms, dkimpy {other * 1e3:.2f} ms, ratio {ratio:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        key, body = Path(folder, "key.pem"), Path(folder, "body")
        key.write_text(pem)
        os.chmod(key, 0o600)
        for kind, line in LINES.items():
            body.write_bytes(line * (chosen.megabytes * 1_000_000 // len(line)))
            found: dict[str, list[tuple[float, float]]] = {"senderproxy": [], "dkimpy": []}
            for _ in range(max(1, chosen.rounds // 5)):
                for way, results in found.items():
                    command = [sys.executable, "-m", "benchmarks.dkim_signing", "--large", way, str(key), str(body)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    seconds, octets = map(float, done.stdout.split())
                    results.append((seconds, octets))
            shown = ", ".join(
                f"{way} {statistics.median(s for s, _ in results):.2f} s and {max(o for _, o in results) / 1e6:.1f} MB"
                for way, results in found.items()
            )
            ratio = statistics.median(
                theirs[0] / ours[0] for ours, theirs in zip(found["senderproxy"], found["dkimpy"], strict=True)
            )
            print(f"{chosen.megabytes} MB {kind}: {shown}, ratio of the time {ratio:.1f}")


if __name__ == "__main__":
    main()
