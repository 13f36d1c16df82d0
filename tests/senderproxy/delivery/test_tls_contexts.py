"""Every TLS context verifies; changed authorities are read again, and the event loop never waits for their files."""

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme

from senderproxy import log_events
from senderproxy.delivery import tls_contexts as module
from senderproxy.delivery.tls_contexts import TlsContexts


@pytest.fixture(autouse=True)
def _slow_disks_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed files are used, however late a busy machine reads them."""
    monkeypatch.setattr(module, "_CHECK_TIMEOUT", 30.0)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return write_authority(tmp_path / "ca.pem")


def write_authority(path: Path) -> Path:
    """Replace the file, as a package manager does, by one with a new authority."""
    new = path.with_suffix(".new")
    trustme.CA().cert_pem.write_to_path(new)
    return new.replace(path)


@asynccontextmanager
async def tls_contexts() -> AsyncIterator[TlsContexts]:
    contexts = TlsContexts()
    try:
        yield contexts
    finally:
        contexts.close()


@contextmanager
def hanging(path: Path) -> Iterator[threading.Event]:
    """Replace the file by a FIFO: reading it blocks until the event is set; then it has an authority."""
    fifo, new = path.with_suffix(".fifo"), path.with_suffix(".new")
    os.mkfifo(fifo)
    new.hardlink_to(fifo)
    new.replace(path)
    released = threading.Event()

    def write() -> None:
        released.wait(60)
        with fifo.open("wb") as stream:
            stream.write(trustme.CA().cert_pem.bytes())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield released
    finally:
        released.set()
        writer.join()


async def test_every_context_verifies_chain_and_name_and_is_new_enough(ca_file: Path) -> None:
    async with tls_contexts() as contexts:
        for context in (await contexts.context(None), await contexts.context(str(ca_file))):
            assert context.verify_mode is ssl.CERT_REQUIRED
            assert context.check_hostname
            assert context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_context_is_cached_until_its_file_changes(ca_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with tls_contexts() as contexts:
        first = await contexts.context(str(ca_file))
        assert await contexts.context(str(ca_file)) is first
        assert not caplog.records
        write_authority(ca_file)
        second = await contexts.context(str(ca_file))
        assert second.get_ca_certs() != first.get_ca_certs()
        assert await contexts.context(str(ca_file)) is second
        (record,) = caplog.records
        assert vars(record)["senderproxy_event"] == log_events.CA_CERTIFICATES_RELOADED.key
        assert vars(record)["senderproxy_fields"] == {"file": str(ca_file)}


async def test_the_system_s_file_is_read_again_when_it_changes(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with tls_contexts() as contexts:
        first = await contexts.context(None)
        assert await contexts.context(None) is first
        write_authority(ca_file)
        second = await contexts.context(None)
        assert second.get_ca_certs() != first.get_ca_certs()
        ca_file.unlink()
        third = await contexts.context(None)
        assert third.get_ca_certs() == [], "the directory may still have authorities: a missing file is no error"
        assert await contexts.context(None) is third


async def test_the_system_s_directory_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(map(str, directories)))
    async with tls_contexts() as contexts:
        before = await contexts.context(None)
        for seconds, directory in enumerate(directories):
            assert await contexts.context(None) is before
            write_authority(directory / "0a1b2c3d.0")
            os.utime(directory, (seconds, seconds))  # it may have changed within the resolution of the file system
            after = await contexts.context(None)
            assert after is not before
            before = after


async def test_only_the_authorities_of_the_file_are_trusted(ca_file: Path) -> None:
    async with tls_contexts() as contexts:
        assert (await contexts.context(str(ca_file))).cert_store_stats()["x509_ca"] == 1


async def test_a_deleted_ca_file_is_an_error(ca_file: Path) -> None:
    async with tls_contexts() as contexts:
        await contexts.context(str(ca_file))
        ca_file.unlink()
        with pytest.raises(FileNotFoundError):
            await contexts.context(str(ca_file))


async def test_sessions_that_open_at_once_share_one_reading(ca_file: Path) -> None:
    async with tls_contexts() as contexts:
        with hanging(ca_file) as released:
            waiting = [asyncio.create_task(contexts.context(str(ca_file))) for _ in range(20)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            released.set()
            found = await asyncio.gather(*waiting[1:])
            assert len(set(map(id, found))) == 1


async def test_a_file_that_cannot_be_read_delays_neither_the_loop_nor_other_files(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHECK_TIMEOUT", 1.0)
    other = write_authority(tmp_path / "other.pem")
    async with tls_contexts() as contexts:
        before = await contexts.context(str(ca_file))
        with hanging(ca_file) as released:
            waiting = asyncio.create_task(contexts.context(str(ca_file)))
            await asyncio.sleep(0)
            assert (await contexts.context(str(other))).cert_store_stats()["x509_ca"] == 1
            assert await waiting is before, "the last context, after a second"
            write_authority(ca_file)
            released.set()
            async with asyncio.timeout(30):
                while await contexts.context(str(ca_file)) is before:
                    await asyncio.sleep(0.001)
