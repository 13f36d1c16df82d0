"""The text that Prometheus reads, whatever the values are."""

from prometheus_client.parser import text_string_to_metric_families

from senderproxy.metrics import series
from senderproxy.metrics.exposition import render
from senderproxy.metrics.series import HistogramValue, Sample


def read(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode("utf-8"))
        for sample in family.samples
    }


def test_counters_gauges_and_histograms_have_their_sentence_kind_and_values() -> None:
    text = render(
        [
            Sample(series.MESSAGES, ("office", "anna", "delivered"), 3),
            Sample(series.ACCOUNTS, (), 2),
            Sample(series.UPSTREAM_SECONDS, ("ionos",), HistogramValue((1, 0, 2, *(0,) * 11, 4), 7.5)),
        ]
    )
    lines = text.decode().splitlines()
    assert "# TYPE senderproxy_messages_total counter" in lines
    assert "# HELP senderproxy_accounts Accounts in the vault." in lines
    assert 'senderproxy_messages_total{account="anna",listener="office",outcome="delivered"} 3.0' in lines
    assert "senderproxy_accounts 2.0" in lines
    assert 'senderproxy_upstream_seconds_bucket{le="0.005",provider="ionos"} 1.0' in lines
    assert 'senderproxy_upstream_seconds_bucket{le="0.025",provider="ionos"} 3.0' in lines
    assert 'senderproxy_upstream_seconds_bucket{le="+Inf",provider="ionos"} 7.0' in lines
    assert 'senderproxy_upstream_seconds_count{provider="ionos"} 7.0' in lines
    assert 'senderproxy_upstream_seconds_sum{provider="ionos"} 7.5' in lines
    assert text.endswith(b"\n")
    assert b"_created" not in text


def test_hostile_names_in_labels_change_no_other_line() -> None:
    names = ['a"b', "a\\b", "a\nb 1\nsenderproxy_accounts 9", "ä{}", "\x00", "a" * 255, ""]
    text = render([Sample(series.UPSTREAM_OPENED, (name,), number) for number, name in enumerate(names)])
    found = read(text)
    assert found == {
        ("senderproxy_upstream_sessions_opened_total", (name,)): float(number) for number, name in enumerate(names)
    }
