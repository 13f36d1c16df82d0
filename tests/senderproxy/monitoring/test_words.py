"""Words of `status` about the instances that share a queue."""

from senderproxy.monitoring.words import instances_in_words


def test_the_instances_are_named_and_which_is_silent_or_drains() -> None:
    def entry(
        name: str, silent: int = 3, messages: int = 5, *, this: bool = False, draining: bool = False
    ) -> dict[str, object]:
        return {"name": name, "this": this, "silent_seconds": silent, "messages": messages, "draining": draining}

    entries = [
        entry("relay1/7", 0, 0, this=True),
        entry("relay2/8"),
        entry("relay3/9", 40, 1),
        entry("relay4/9", 41, 2, draining=True),
        entry("relay5/10", draining=True),
    ]
    assert instances_in_words(entries) == (
        "Instances: relay1/7 (this one), relay2/8, relay3/9 (silent for 40 s, with 1 message in progress),"
        " relay4/9 (silent for 41 s, with 2 messages in progress, drains), relay5/10 (drains)."
    )
    assert "relay1/7 (this one, drains)" in instances_in_words([entry("relay1/7", this=True, draining=True)])
