"""The proxy that environment variables name."""

import pytest

from senderproxy.http_client.errors import InvalidUrl
from senderproxy.http_client.proxy import proxy_for
from senderproxy.http_client.url import parse_url

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://hooks.example/", {}, None),
        ("https://hooks.example/", {"https_proxy": PROXY}, PROXY),
        ("https://hooks.example/", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://hooks.example/", {"https_proxy": ""}, None),
        ("http://127.0.0.1/", {"https_proxy": PROXY, "http_proxy": PROXY}, None),
        ("https://hooks.example/", {"https_proxy": PROXY, "no_proxy": "*"}, None),
        ("https://hooks.example/", {"https_proxy": PROXY, "no_proxy": "other.example, hooks.example"}, None),
        ("https://Hooks.Example./", {"https_proxy": PROXY, "NO_PROXY": "EXAMPLE"}, None),
        ("https://hooks.example/", {"https_proxy": PROXY, "no_proxy": ".example"}, None),
        ("https://hooks.example/", {"https_proxy": PROXY, "no_proxy": "ooks.example"}, PROXY),
        ("https://hooks.example/", {"https_proxy": PROXY, "no_proxy": "hooks.example:444,,"}, PROXY),
        ("https://hooks.example:444/", {"https_proxy": PROXY, "no_proxy": "hooks.example:444"}, None),
        ("https://10.1.2.3/", {"https_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, None),
        ("https://[fd00::1]/", {"https_proxy": PROXY, "no_proxy": "fd00::/8"}, None),
        ("https://11.1.2.3/", {"https_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, PROXY),
    ],
)
def test_the_proxy_of_a_url(url: str, environment: dict[str, str], expected: str | None) -> None:
    found = proxy_for(parse_url(url), environment)
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize("named", ["https://proxy.example:3128", "http://proxy.example:geheim-/", "socks5://x.example"])
def test_another_kind_of_proxy_is_refused_without_being_repeated(named: str) -> None:
    with pytest.raises(InvalidUrl, match=r"^https_proxy: ") as caught:
        proxy_for(parse_url("https://hooks.example/"), {"https_proxy": named})
    assert "geheim" not in caught.value.message
