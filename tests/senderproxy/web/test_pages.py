"""The pages over the real sockets of a running service: what they show, what they change, what they refuse."""

import asyncio
import html
import re
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from senderproxy.clock import SystemClock
from senderproxy.control import client as client_module
from senderproxy.control.client import ask
from senderproxy.control.protocol import Role, Verb, new_request
from senderproxy.web import service_client
from senderproxy.web.passwords import hash_password
from senderproxy.web.store import PageUser
from tests.senderproxy.spool.sqlite.open_spool import sql
from tests.senderproxy.web.page_office import HOSTILE, HOSTILE_REPLY, ORIGIN, PageOffice, browser, page_office

PAGES = ("/", "/accounts", "/accounts/anna", "/queue", "/search", "/search?all=1", "/explain", "/volume")
CHANGES = ("/queue/change", "/accounts/anna/resume", "/drain/undo")
PASSWORD = "geheim-anna-12"


async def queued(office: PageOffice, count: int, tries: int = 1) -> list[str]:
    """The ids of the queued messages, once so many were tried so often."""
    async with asyncio.timeout(30):
        while True:
            request = new_request(Verb.QUEUE_LIST, query={"unfinished": True})
            answer = await asyncio.to_thread(ask, office.sockets / "read", request)
            found = answer["messages"]
            ready = [one for one in found if not one["leased"] and any(s["tries"] >= tries for s in one["recipients"])]
            if len(ready) >= count:
                return [str(one["id"]) for one in ready]
            await asyncio.sleep(0.02)


def text_of(answer: httpx.Response) -> str:
    """The page as it is read."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


@pytest.mark.parametrize("code", ["en", "de"])
async def test_each_page_is_complete_in_each_language(tmp_path: Path, code: str) -> None:
    async with (
        page_office(tmp_path) as office,
        browser(office, headers={"Accept-Language": f"fr;q=0.9,{code}-AT"}) as client,
    ):
        for path in PAGES:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert f'<html lang="{code}">' in answer.text
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert "<script" not in answer.text
            assert " style=" not in answer.text
            assert not re.search(r'(?:src|href|action)="(?!/)', answer.text.replace('href="#content"', ""))
        for name in ("page.css", "icon.svg"):
            assert (await client.get(f"/static/{name}")).status_code == 200


async def test_conditions_come_first_with_their_fix(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        assert "Nothing. Mail is sent." in text_of(await client.get("/"))
        await office.send("bert@firma.example", "kunde@kunde.example")
        async with asyncio.timeout(30):
            while "set-password bert" not in (text := text_of(await client.get("/"))):
                await asyncio.sleep(0.05)
        queue = "The queue is empty" if "The queue is empty" in text else "1 message waiting"
        assert text.index("senderproxy account set-password bert") < text.index(queue)
        account = text_of(await client.get("/accounts/bert"))
        assert "suspended" in account
        assert "Let it log in again" in account
        answer = await client.submit("/accounts/bert/resume")
        assert "The account may log in again." in text_of(answer)


async def test_a_drain_is_shown_and_ended(tmp_path: Path) -> None:
    more = 'proxy_from = ["127.0.0.1"]\nallow = ["192.168.1.0/24"]'
    async with page_office(tmp_path, listener=more) as office, browser(office) as client:
        await asyncio.to_thread(ask, office.sockets / "operate", new_request(Verb.DRAIN, on=True))
        async with browser(office, Role.READ) as reader:
            text = text_of(await reader.get("/"))
            assert "Draining since" in text
            assert "Put it back into service" not in text
            assert (await reader.submit("/drain/undo")).status_code == 403
        assert "Put it back into service" in text_of(await client.get("/"))
        answer = await client.submit("/drain/undo")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "Draining" not in text_of(await client.get("/"))


async def test_a_message_is_held_released_and_cancelled_and_its_history_names_the_user(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office:
        office.store.put_user(PageUser("anna", Role.OPERATE, hash_password(PASSWORD)), replace=False)
        await office.send("anna@firma.example", "later@kunde.example")
        (message,) = await queued(office, 1)
        async with browser(office, None) as client:
            assert (await client.submit("/login", {"user": "anna", "password": PASSWORD})).status_code == 303
            assert message in (await client.get("/queue")).text
            held = await client.submit("/queue/change", {"action": "hold", "id": message})
            assert "1 message is held." in text_of(held)
            assert message in (await client.get("/queue?held=1")).text
            again = await client.submit("/queue/change", {"action": "hold", "id": message})
            assert "it is already held" in text_of(again)
            await client.submit("/queue/change", {"action": "release", "id": message})
            await queued(office, 1, tries=2)  # it is due at once
            asked = await client.submit("/queue/change", {"action": "cancel", "id": message})
            assert "Cancel 1 message? Its author gets a report" in text_of(asked)
            assert message in (await client.get("/queue")).text
            fields = {"action": "cancel", "id": message, "confirmed": "1", "unreported": "1"}
            assert "1 message is cancelled." in text_of(await client.submit("/queue/change", fields))
            history = text_of(await client.get(f"/messages/{message}"))
            for words in ("held for later@kunde.example by anna (page)", "released", "cancelled", "451 4.7.1"):
                assert words in history
            assert "The queue is empty." in text_of(await client.get("/queue"))


async def test_the_queue_is_filtered_and_has_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senderproxy.web.queue_views.PAGE", 2)
    async with page_office(tmp_path) as office, browser(office) as client:
        for author in ("anna", "carla", "anna"):
            await office.send(f"{author}@firma.example", "later@kunde.example")
        ids = await queued(office, 3)
        first = await client.get("/queue")
        following = html.unescape(re.search(r'href="(/queue\?after=[^"]*)"', first.text)[1])  # type: ignore[index]
        second = await client.get(following)
        shown = [[one for one in ids if one in page.text] for page in (first, second)]
        assert sorted(shown[0] + shown[1]) == sorted(ids)
        assert len(shown[0]) == 2
        assert len(re.findall(r'name="id"', (await client.get("/queue?from=carla@firma.example")).text)) == 1
        assert len(re.findall(r'name="id"', (await client.get("/queue?account=anna&to=@kunde.example")).text)) == 2
        for query in ("age=3d", "held=1", "from=nobody@firma.example", "from=%3Cinvalid"):
            assert "No queued message matches." in text_of(await client.get(f"/queue?{query}"))


async def test_the_search_finds_by_sender_recipient_time_and_id(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        await office.send("anna@firma.example", "later@kunde.example")
        (message,) = await queued(office, 1)
        message_id = re.search(
            r"<dt>Message-ID</dt><dd>&lt;([^&]+)&gt;", (await client.get(f"/messages/{message}")).text
        )
        assert message_id is not None
        for query in (
            "from=anna@firma.example", "to=@kunde.example", f"id={message}", f"id={message_id[1]}", "status=waiting",
            "since=2020-01-01T00:00", "account=anna", "all=1",
        ):  # fmt: skip
            assert f"/messages/{message}" in (await client.get(f"/search?{query}")).text, query
        for query in ("from=bert@firma.example", "until=2020-01-01T00:00", "status=delivered", "upstream_id=x"):
            assert "No message found." in text_of(await client.get(f"/search?{query}")), query
        for query in ("since=yesterday", "until=99999-01-01", "status=strange", "since=0001-01-01T00:00"):
            assert (await client.get(f"/search?{query}")).status_code == 400, query
        assert (await client.get("/messages/unknown")).status_code == 404
        assert (await client.get("/accounts/unknown")).status_code == 404


async def test_an_address_and_a_dropped_message_are_explained_as_by_the_command(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        typed = text_of(await client.get("/explain?address=anna%2Btag@firma.example"))
        assert "It would be sent by anna" in typed
        assert "found by the address without its +tag" in typed
        letter = f"From: Bert <bert@firma.example>\nSubject: {HOSTILE_REPLY}\n\nFrom: anna@firma.example\n".encode()
        dropped = await client.submit("/explain", files={"message": ("a.eml", letter, "message/rfc822")})
        assert "It would be sent by bert" in text_of(dropped)
        assert "anna" not in text_of(dropped).partition("It would be")[2]
        form = {"address": "niemand@fremd.example"}
        foreign = text_of(await client.submit("/explain", form, files={"message": ("", b"")}))
        assert "It would not be sent" in foreign
        assert "Sie würde nicht gesendet" in text_of(
            await client.get("/explain?address=niemand@fremd.example", headers={"Accept-Language": "de"})
        )
        wrong = await client.get("/explain?address=no address")
        assert wrong.status_code == 400
        assert "Invalid address" in text_of(wrong)
        assert (await client.submit("/explain", {"address": "x"})).status_code == 400  # no form with a file


async def test_the_counts_of_the_spool_are_in_the_charts(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        await office.send("anna@firma.example", "later@kunde.example")
        await office.send("anna@firma.example", "kunde@kunde.example")
        await queued(office, 1)
        async with asyncio.timeout(30):
            while True:
                answer = await asyncio.to_thread(ask, office.sockets / "read", new_request(Verb.COUNTS))
                if sorted(status for _hour, status, _count in answer["counts"]) == ["delivered", "waiting"]:
                    break
                await asyncio.sleep(0.02)
        text = text_of(await client.get("/volume"))
        assert "delivered 1 waiting, held or deferred 1 refused or given up 0" in text


async def test_hostile_subjects_senders_and_replies_are_shown_as_text(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        await office.send(f'"{HOSTILE_REPLY}" <anna@firma.example>', "later@kunde.example", HOSTILE)
        (message,) = await queued(office, 1)
        for path in ("/", "/queue", f"/messages/{message}", "/search?all=1", "/accounts", "/accounts/anna"):
            raw = (await client.get(path)).text
            assert "<script>" not in raw, path
            assert "<img" not in raw, path
            assert not [c for c in raw if not c.isprintable() and c != "\n"], path
        shown = (await client.get(f"/messages/{message}")).text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
        assert "\\u202egnp.exe\\u202c\\x1b[31m\\x07" in shown
        for query in ("/queue?from=", "/search?from=", "/accounts?q=", "/explain?address=", "/messages/", "/accounts/"):
            raw = (await client.get(query + quote(HOSTILE, safe=""))).text
            assert "<script>" not in raw, query
            assert "\u202e" not in raw, query


async def test_without_a_session_there_is_no_page_but_the_login(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office, None) as client:
        for path in (*PAGES, "/messages/x", "/queue/change"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers.get("location")) in {(303, "/login"), (405, None)}, path
        for path in CHANGES:
            answer = await client.submit(path, {"action": "cancel", "id": "x"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        for cookie in ("", "x", "a" * 4000, "../../etc/passwd", '"; DROP'):
            answer = await client.get("/", headers={"Cookie": f"senderproxy={cookie}"})
            assert answer.status_code == 303
        assert (await client.get("/login")).status_code == 200


async def test_the_role_to_read_changes_nothing_by_any_request(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office, Role.READ) as client:
        await office.send("anna@firma.example", "later@kunde.example")
        (message,) = await queued(office, 1)
        page = await client.get(f"/messages/{message}")
        assert "Retry now" not in page.text
        assert "read only" in page.text
        assert 'name="id"' not in (await client.get("/queue")).text
        for action in ("retry", "hold", "release", "cancel"):
            fields = {"action": action, "id": message, "confirmed": "1"}
            assert (await client.submit("/queue/change", fields)).status_code == 403
        assert (await client.submit("/accounts/bert/resume")).status_code == 403
        assert text_of(await client.get(f"/messages/{message}")).count("(page)") == 0


async def test_a_configuration_that_permits_reading_alone_limits_every_login(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="read") as office, browser(office, Role.OPERATE) as client:
        assert "read only" in (await client.get("/")).text
        assert (await client.submit("/accounts/anna/resume")).status_code == 403


async def test_a_link_logs_in_once_and_only_by_its_button(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office, None) as client:
        token = office.store.new_link(Role.READ, SystemClock().now())
        for _ in range(3):  # as programs do that look at links in mails
            assert token in (await client.get(f"/login/link/{token}")).text
        answer = await client.submit("/login/link", {"token": token})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert token not in answer.headers["set-cookie"]
        assert (await client.get("/")).status_code == 200
        assert (await client.submit("/login/link", {"token": token})).status_code == 403
        old = client.cookies["senderproxy"]
        await client.submit("/logout")
        assert (await client.get("/", headers={"Cookie": f"senderproxy={old}"})).status_code == 303


async def test_wrong_passwords_are_counted_and_never_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with page_office(tmp_path) as office, browser(office, None) as client:
        office.store.put_user(PageUser("anna", Role.READ, hash_password(PASSWORD)), replace=False)
        for attempt in range(5):
            fields = {"user": "anna" if attempt else "password in the wrong field", "password": "wrong"}
            assert (await client.submit("/login", fields)).status_code == 403
        await client.submit("/login", {"user": "anna", "password": "wrong"})
        limited = await client.submit("/login", {"user": "anna", "password": PASSWORD})
        assert limited.status_code == 429
        assert "Too many failed logins" in text_of(limited)
        assert "wrong field" not in " ".join(str(vars(record)) for record in caplog.records)
        token = office.store.new_link(Role.READ, SystemClock().now())
        assert (await client.submit("/login/link", {"token": token})).status_code == 303  # nobody is locked out


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8525", "127.0.0.1.evil.example", "169.254.169.254"])
async def test_a_name_that_an_attacker_controls_gets_no_page(tmp_path: Path, host: str) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        for path in ("/", "/login", "/static/page.css"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status_code == 421
            assert "[web] hosts" in answer.text
        answer = await client.post("/queue/change", headers={"Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 421


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:3000", "https://127.0.0.1:8525"]
)
async def test_a_form_of_another_page_changes_nothing(tmp_path: Path, origin: str | None) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        headers = {"Origin": origin} if origin else {}
        for path in (*CHANGES, "/login", "/logout", "/login/link", "/explain"):
            answer = await client.post(path, data={"action": "hold", "id": "x"}, headers=headers)
            assert answer.status_code == 403
            assert "does not come from the page" in answer.text
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../views.py", "/static/..%2fviews.py", "/static/%2e%2e/store.py", "/static//etc/passwd", "/static/",
     "/static/page.css%00", "/templates/base.html", "/\\evil.example", "/messages/..%2f..", "/a" * 2000],
)  # fmt: skip
async def test_no_path_leads_elsewhere(tmp_path: Path, path: str) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        answer = await client.get(path)
        assert answer.status_code in (404, 400)
        assert "location" not in answer.headers
        assert "root:" not in answer.text


async def test_other_methods_types_and_sizes_are_refused(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
            assert (await client.request(method, "/")).status_code == 405
        headers = {"Origin": ORIGIN}
        big = await client.post("/queue/change", content=b"action=hold&id=" + b"x" * 200_000, headers=headers)
        assert big.status_code in (400, 413)
        many = "&".join(f"id={number}" for number in range(3000))
        assert (await client.submit("/queue/change", {"action": "hold", "id": ["x"] * 400})).status_code == 400
        for content in (many.encode(), b"\xff\xfe", b"action=hold", b"", b"action=dance&id=x"):
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            assert (await client.post("/queue/change", content=content, headers=headers | kind)).status_code == 400
        assert (await client.post("/queue/change", json={"action": "hold"}, headers=headers)).status_code == 400


async def test_all_browsers_together_ask_for_the_status_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = 0

    def counted(*arguments: object, **more: object) -> object:
        nonlocal polls
        polls += 1
        return client_module.ask_status(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(service_client, "ask_status", counted)
    async with page_office(tmp_path) as office, browser(office) as client:
        start = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(client.get("/accounts") for _ in range(50)))
        seconds = asyncio.get_running_loop().time() - start
    assert {answer.status_code for answer in answers} == {200}
    assert polls <= 1 + seconds


async def test_without_the_service_a_page_says_so_with_the_command(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        await office.service.stop()
        answer = await client.get("/")
        assert answer.status_code == 503
        assert "systemctl start senderproxy" in text_of(answer)


async def test_a_path_behind_another_server_is_in_every_address(tmp_path: Path) -> None:
    url = "https://mail.firma.example/relay/"
    async with page_office(tmp_path, url=url) as office, browser(office, None) as client:
        client.base_url = httpx.URL("https://mail.firma.example")
        token = office.store.new_link(Role.READ, SystemClock().now())
        answer = await client.submit("/relay/login/link", {"token": token})
        assert answer.headers["location"] == "/relay/"
        assert answer.headers["set-cookie"].startswith("__Host-senderproxy=")
        assert "Secure" in answer.headers["set-cookie"]
        for path in ("/relay/", "/relay/queue", "/queue", "/relay"):  # a server may remove the path
            page = await client.get(path)
            assert page.status_code == 200, path
            links = re.findall(r'(?:href|action)="([^"#]+)"', page.text)
            assert links
            assert all(link.startswith("/relay/") for link in links)


async def test_the_page_of_a_message_names_the_way_of_each_recipient(tmp_path: Path) -> None:
    routes = """\
[smarthosts.lager]
host = "127.0.0.1"
port = 1
security = "none"
[[routes]]
recipients = ["@lager.example"]
via = "smarthost lager"
"""
    async with page_office(tmp_path, more=routes) as office, browser(office) as client:
        await office.send("anna@firma.example", "tor@lager.example")
        request = new_request(Verb.QUEUE_LIST, query={"unfinished": True})
        (entry,) = (await asyncio.to_thread(ask, office.sockets / "read", request))["messages"]
        message = entry["id"]
        shown = text_of(await client.get(f"/messages/{message}"))
        assert "tor@lager.example by smarthost lager" in shown
        assert "smarthost lager" in text_of(await client.get("/queue"))


async def test_the_search_by_subject_is_there_where_subjects_are_kept(tmp_path: Path) -> None:
    more = "[spool]\nkeep_subjects = true\n"
    async with page_office(tmp_path, more=more) as office, browser(office) as client:
        await office.send("anna@firma.example", "later@kunde.example", f"Angebot 4711 {HOSTILE}")
        await office.send("anna@firma.example", "later@kunde.example", "Rechnung")
        await queued(office, 2)
        assert 'name="subject"' in (await client.get("/search")).text
        found = await client.get("/search?subject=4711+angebot")
        assert len(re.findall(r'href="/messages/', found.text)) == 1
        assert re.search(r'data-label="subject" class="subject">Angebot 4711 &lt;script&gt;alert\(1\)', found.text)
        assert "received from to subject status last reply" in text_of(found)
        assert "<script" not in found.text
        assert "No message found." in text_of(await client.get("/search?subject=gebot"))
        (path,) = re.findall(r'href="(/messages/[^"]*)"', found.text)
        message = await client.get(path)
        assert "subject Angebot 4711 <script>alert(1)</script>" in text_of(message)
        assert "<script" not in message.text


async def test_without_kept_subjects_the_search_has_no_field_for_them(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office, browser(office) as client:
        assert 'name="subject"' not in (await client.get("/search")).text
        await office.send("anna@firma.example", "later@kunde.example", "Angebot f\u00fcr B\u00fcro 4711")
        (message,) = await queued(office, 1)
        found = await client.get("/search?all=1")
        assert "Subject changed, because it had octets above 127" in text_of(await client.get(f"/messages/{message}"))
        assert sql(office.folder / "spool", "SELECT count(*) FROM event WHERE facts LIKE '%4711%'") == [(0,)]
        assert len(re.findall(r'href="/messages/', found.text)) == 1
        assert "received from to status last reply" in text_of(found)
        assert "Angebot" not in found.text
        assert 'name="subject" value="angebot"' in (await client.get("/search?subject=angebot")).text
