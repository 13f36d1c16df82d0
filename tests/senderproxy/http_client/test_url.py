"""URLs: what is accepted, and that nothing but scheme, host and port is shown."""

import pytest

from senderproxy.http_client.errors import InvalidUrl
from senderproxy.http_client.message import Answer, Request
from senderproxy.http_client.url import parse_url

SECRET = "https://hook:geheim-pass@hooks.example:8443/geheim-path?token=geheim-query#geheim-fragment"


def test_the_parts_of_a_url() -> None:
    url = parse_url(SECRET)
    assert (url.scheme, url.host, url.port) == ("https", "hooks.example", 8443)
    assert url.target == "/geheim-path?token=geheim-query"
    assert url.authorization == "Basic aG9vazpnZWhlaW0tcGFzcw=="


@pytest.mark.parametrize(
    ("text", "shown", "target"),
    [
        ("https://hooks.example", "https://hooks.example", "/"),
        ("HTTPS://Hooks.Example:443/a", "https://hooks.example", "/a"),
        ("http://127.0.0.1/x", "http://127.0.0.1", "/x"),
        ("http://127.0.0.1:443/x", "http://127.0.0.1:443", "/x"),
        ("http://[::1]:8080/x?y", "http://[::1]:8080", "/x?y"),
        ("https://ntfy.office.example./t", "https://ntfy.office.example.", "/t"),
    ],
)
def test_a_url_is_shown_without_its_path(text: str, shown: str, target: str) -> None:
    url = parse_url(text)
    assert (str(url), url.target) == (shown, target)


def test_no_representation_shows_a_secret() -> None:
    url = parse_url(SECRET)
    request = Request("POST", url, {"X-Key": "geheim-field"}, b"geheim-body")
    answer = Answer(200, "OK", {"x": "geheim-field"}, b"geheim-body")
    shown = f"{url} {url!r} {request} {request!r} {answer} {answer!r}"
    assert "geheim" not in shown
    assert "https://hooks.example:8443" in shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "geheim-token",
        "hooks.example/geheim",
        "ftp://hooks.example/geheim",
        "file:///geheim",
        "https:///geheim",
        "https://hooks.example:0/geheim",
        "https://hooks.example:65536/geheim",
        "https://hooks.example:geheim/",
        "https://[geheim/",
        "https://[fe80::1%25eth0]/geheim",
        "https://[fe80::1%eth0]/geheim",
        "https://hooks example/geheim",
        "https://hooks.example/ge heim",
        "https://hooks.example/geheim\r\nX: y",
        "https://hooks.example/geheim\tx",
        "https://büro.example/geheim",
        "https://hooks..example/geheim",
        f"https://hooks.example/{'geheim' * 1000}",
    ],
)
def test_an_invalid_url_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidUrl) as caught:
        parse_url(text)
    assert "geheim" not in caught.value.message + caught.value.hint + repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
