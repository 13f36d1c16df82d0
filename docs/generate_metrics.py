"""Generator of docs/metrics.md from the list of series.

    python -m docs.generate_metrics > docs/metrics.md

Guarantees: every series is on the page with its name, kind, labels and sentence.
"""

import sys
from collections.abc import Iterator
from typing import Final

from senderproxy.metrics.series import ACCOUNTS_LIMIT, NAMES_LIMIT, SERIES, Series

_HEAD: Final = """\
# Metrics

<!-- Made by `make docs` from docs/generate_metrics.py and senderproxy/metrics/series.py: change the text there. -->

The service can show its figures to a monitoring system, in Prometheus' text format. This is off by default. To switch
it on, add to the configuration and restart:

```toml
[metrics]
listen = "127.0.0.1:9464"
```

```sh
sudo systemctl restart senderproxy
curl http://127.0.0.1:9464/metrics
```

`senderproxy check` says before the start if another program has the port. If the address cannot be opened later, mail
is not affected: there is the condition `metrics_unavailable` ([conditions.md](conditions.md)), and the service tries
again every minute. A reload opens another address and closes the old one; only switching on and off needs a restart.

## Who can read them

There is no encryption and no login. On 127.0.0.1 or [::1] every user and program of this machine can read the
metrics; pages in a browser cannot, because a request must name an IP address or `localhost`. On another address
`allow` must name the monitoring system, because its default is this machine alone. A network that contains everything
is refused.

A socket is for the users of its group only, without a port:

```toml
[metrics]
listen = "unix:/run/senderproxy/metrics.sock"
```

```sh
sudo curl --unix-socket /run/senderproxy/metrics.sock http://localhost/metrics
```

The metrics contain no words of clients or providers, no addresses of recipients, and no password. The label `account`
is the account's id. `senderproxy account add` takes the mailbox's address as the id if no `--id` is given: such an
account appears as `account-` and eight digits, always the same for this vault, and `senderproxy status --json` has
the ids under `metrics`. With `addresses = true` the id itself appears.

## Prometheus and Grafana

`deploy/prometheus/` (in the Debian package `/usr/share/doc/senderproxy/examples/prometheus/`) has:

| file | content |
| --- | --- |
| `prometheus.yml` | the scrape configuration, to be merged with yours |
| `senderproxy-rules.yml` | alert rules |
| `senderproxy-rules-test.yml` | their tests: `promtool test rules senderproxy-rules-test.yml` |
| `senderproxy-dashboard.json` | a dashboard for Grafana: Dashboards, New, Import |

Prometheus cannot scrape a Unix socket. Where metrics must not be on a port, a timer can write them to a file for the
textfile collector of Prometheus' node exporter; the file must be complete when it gets its name:

```sh
cd /var/lib/prometheus/node-exporter
curl --silent --fail --max-time 10 --output senderproxy.tmp --unix-socket /run/senderproxy/metrics.sock \\
    http://localhost/metrics && mv senderproxy.tmp senderproxy.prom
```

The alerts that the service sends itself need no monitoring system. A monitoring system sees in addition that the
whole machine is gone: the rule `SenderproxyDown`.

## How to read them

- Counters begin with 0 at each start of the service; `rate()` and `increase()` of Prometheus take that into account.
  Those of a listener also begin again when a reload replaces it, and those of an account disappear with the account.
- `senderproxy_messages_total` counts messages when the client gets its reply. `senderproxy_recipients_total` counts
  recipients as the history has them (`senderproxy track`): `direct` plus `queue`, without the outcome `queued`, are
  all recipients with a final state; `queued` minus the other outcomes of stage `queue` are those that wait or are
  held. One refusal that a client repeats within a minute is counted in `senderproxy_messages_total` each time, and is
  in the history ten times.
- Replies to MAIL and RCPT, before there is a message, are not counted, but for the limits on rates: those clients are
  in `senderproxy_clients_turned_away_total`.
- An account appears after its first message, and the queue's figures while it has messages.
- A series without a value is left out: there is no `senderproxy_conditions` without conditions. Write
  `sum(senderproxy_conditions) or vector(0)` for a panel.
- A scrape asks the disk of the spool for its free space, as `senderproxy status` does. If it does not respond, the
  answer has the figures of the last time after 6 seconds; set Prometheus' `scrape_timeout` to 10 seconds.

## Series

"""

_TABLE: Final = """\
| name | kind | labels | meaning |
| --- | --- | --- | --- |
"""

_TAIL: Final = f"""
The first {ACCOUNTS_LIMIT} accounts that are used have a label of their own, all others are `other` together; the same
holds for the first {NAMES_LIMIT} names of listeners and providers. The account of a message without one, because it
was refused, is `none`; that of reports to an internal server is `internal`.

`severity` is `info`, `warning`, `error` or `critical`; `key` is a heading of [conditions.md](conditions.md).
"""


def render_metrics() -> str:
    """The page in Markdown."""
    return _HEAD + _TABLE + "".join(_rows()) + _TAIL


def _rows() -> Iterator[str]:
    for series in SERIES:
        yield f"| `{series.name}` | {series.kind} | {_labels(series)} | {series.text} |\n"


def _labels(series: Series) -> str:
    return ", ".join(f"`{name}`" for name in series.labels)


if __name__ == "__main__":
    sys.stdout.write(render_metrics())
