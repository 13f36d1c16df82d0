"""Users, links and sessions of the page."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.control.protocol import Role
from senderproxy.web.passwords import hash_password, verify_password
from senderproxy.web.store import LINK_SECONDS, SESSION_SECONDS, PageUser, Store, StoreError, is_user_name

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_link_is_good_once_and_for_ten_minutes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    token = store.new_link(Role.READ, NOW)
    assert not store.has_link("another", NOW)
    assert store.has_link(token, later(LINK_SECONDS - 1))
    assert not store.has_link(token, later(LINK_SECONDS))
    assert store.take_link(token, later(LINK_SECONDS)) is None
    assert store.take_link(token, later(1)) is Role.READ
    assert store.take_link(token, later(1)) is None


def test_a_session_ends_by_time_by_logout_and_with_its_user(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_user(PageUser("anna", Role.OPERATE, hash_password("geheim-anna-1")), replace=False)
    first, second = (store.new_session("anna", Role.OPERATE, NOW) for _ in range(2))
    by_link = store.new_session("", Role.READ, NOW)
    session = store.session(first, later(SESSION_SECONDS - 1))
    assert session is not None
    assert (session.user, session.role) == ("anna", Role.OPERATE)
    assert store.session(first, later(SESSION_SECONDS)) is None
    store.end_session(first)
    assert store.session(first, NOW) is None
    assert store.session(second, NOW) is not None
    store.put_user(PageUser("anna", Role.OPERATE, hash_password("geheim-anna-2")), replace=True)
    assert store.session(second, NOW) is None
    third = store.new_session("anna", Role.OPERATE, NOW)
    store.remove_user("anna")
    assert store.session(third, NOW) is None
    assert store.session(by_link, NOW) is not None


def test_a_user_is_neither_replaced_nor_made_by_mistake(tmp_path: Path) -> None:
    store = Store(tmp_path)
    user = PageUser("anna", Role.READ, hash_password("geheim-anna-1"))
    with pytest.raises(StoreError, match="no user anna"):
        store.put_user(user, replace=True)
    store.put_user(user, replace=False)
    with pytest.raises(StoreError, match="a user anna already"):
        store.put_user(user, replace=False)
    with pytest.raises(StoreError, match="no user bert"):
        store.remove_user("bert")
    assert store.users() == {"anna": user}


def test_no_file_holds_what_lets_anyone_in_and_each_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    secrets = [store.new_link(Role.READ, NOW), store.new_session("", Role.READ, NOW)]
    store.put_user(PageUser("anna", Role.READ, hash_password("geheim-anna-1")), replace=False)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
        content = path.read_text()
        assert not any(secret in content for secret in (*secrets, "geheim-anna-1"))
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "links.json", "sessions.json", "users.json"}
    assert "scrypt" not in repr(store.users())


def test_the_numbers_are_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    links = [store.new_link(Role.READ, NOW) for _ in range(25)]
    assert sum(store.has_link(link, NOW) for link in links) == 20
    assert store.has_link(links[-1], NOW)
    sessions = [store.new_session("", Role.READ, NOW) for _ in range(203)]
    assert [store.session(token, NOW) is None for token in sessions[:4]] == [True, True, True, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_gives_its_files_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    Store(tmp_path).new_link(Role.READ, NOW)
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {65534}


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_text("{}")
    (folder / "links.json").symlink_to(elsewhere)
    (folder / ".links.json").symlink_to(elsewhere)
    with pytest.raises(StoreError):
        Store(folder).new_link(Role.READ, NOW)
    assert elsewhere.read_text() == "{}"


def test_a_missing_folder_and_a_damaged_file_have_a_hint(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store(tmp_path / "missing").new_link(Role.READ, NOW)
    assert "sudo" in caught.value.hint
    (tmp_path / "users.json").write_text("{")
    with pytest.raises(StoreError, match=r"users\.json is damaged") as caught:
        Store(tmp_path).users()
    assert "Delete it" in caught.value.hint


@pytest.mark.parametrize("stored", [None, "", "scrypt", "scrypt$$", "scrypt$x$y", "plain$AAAA$AAAA", "$$$$"])
def test_a_damaged_hash_matches_nothing(stored: str | None) -> None:
    assert not verify_password("", stored)


def test_a_password_matches_its_own_hash_alone() -> None:
    stored = hash_password("geheim-ä-\ud800")
    assert verify_password("geheim-ä-\ud800", stored)
    assert not verify_password("geheim-a", stored)
    assert hash_password("geheim-1") != hash_password("geheim-1")


@pytest.mark.parametrize(
    ("name", "valid"),
    [("anna", True), ("Anna Berger", True), ("", False), (" a", False), ("a\n", False), ("x" * 65, False)],
)
def test_names_of_users(name: str, valid: bool) -> None:
    assert is_user_name(name) is valid
