"""Any change to a vault file: its records as they were, or Damaged, TooNew or WrongKey; never another error."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzed
from tests.vault.conftest import Cabinet
from tests.vault.test_damage import RECORDS, open_bytes, original, with_new_digest
from vault import Damaged, TooNew, Vault, VaultError, WrongKey

_TOKENS = st.sampled_from(
    [b"\n", b" ", b"->", b"---", b"id ", b"generation ", b"salt ", b"whole ", b"vault/v1\n", b"vault/v2\n", b"0", b"-1", b"=", b"A" * 44,
     b"-> key-file office ", b"-> passphrase-argon2id x 1 8 1 ", b"-> passphrase-scrypt x 1 8 1 ", b"-> tpm2 x\n", b"\0\0\0\0", b"\xff"]
)  # fmt: skip
_PLACES = st.integers(0, 4000)
_CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), _PLACES, st.integers(1, 255).map(lambda mask: bytes([mask]))),
        st.tuples(st.just("cut"), _PLACES, st.binary(min_size=1, max_size=60)),
        st.tuples(st.just("insert"), _PLACES, _TOKENS | st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("end"), _PLACES, st.just(b"")),
    ),
    min_size=1,
    max_size=5,
)


def changed(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """The content after these changes, each at its place modulo the length."""
    for what, place, octets in changes:
        at = place % (len(content) + 1)
        match what:
            case "flip" if at < len(content):
                content = content[:at] + bytes([content[at] ^ octets[0]]) + content[at + 1 :]
            case "cut":
                content = content[:at] + content[at + len(octets) :]
            case "insert":
                content = content[:at] + octets + content[at:]
            case "end":
                content = content[:at]
            case _:
                pass  # a bit behind the last octet
    return content


@fuzzed(200)
@given(_CHANGES, st.booleans())
def test_a_changed_vault_yields_no_wrong_record_and_no_other_error(
    changes: list[tuple[str, int, bytes]], forged: bool
) -> None:
    """`forged`: with a new digest, which needs no key."""
    content = changed(original(), changes)
    if forged and content.count(b"\n") >= 2:
        content = with_new_digest(content)
    refused: VaultError | None = None
    try:
        records = open_bytes(content)
    except (Damaged, TooNew, WrongKey) as error:
        refused = error
    else:
        assert records == RECORDS
        assert content == original()
    assert refused is None or "geheim" not in f"{refused} {refused.hint}"


@fuzzed(20)
@given(_CHANGES)
def test_the_same_on_disk(changes: list[tuple[str, int, bytes]]) -> None:
    with TemporaryDirectory() as folder:
        cabinet = Cabinet(Path(folder))
        cabinet.write(RECORDS)
        before = cabinet.path.read_bytes()
        cabinet.path.write_bytes(changed(before, changes))
        for action in (cabinet.read, lambda: Vault.inspect(cabinet.path)):
            refused: VaultError | None = None
            try:
                action()
            except (Damaged, TooNew, WrongKey) as error:
                refused = error
            assert cabinet.path.read_bytes() == before if refused is None else refused.path == cabinet.path
