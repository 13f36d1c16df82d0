"""`senderproxy run`: the service, in the foreground.

Not here: the service (cli.serve, app), which is loaded while another process reads the configuration.
"""

import argparse

from senderproxy.config.plain import use_plain_sections
from senderproxy.control.dataclass_memory import share_methods_of_dataclasses
from senderproxy.translation import SOURCE, use_language


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy run`."""
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 after SIGTERM or Ctrl-C. Raises SenderproxyError if the service cannot start."""
    use_language(SOURCE)  # its texts go to the log
    use_plain_sections()  # before the first module of the configuration is loaded
    share_methods_of_dataclasses()  # likewise
    from senderproxy.cli.config_file import config_path
    from senderproxy.config.reader import Reading
    from senderproxy.control.systemd import SystemdNotifier
    from senderproxy.service.refusing_listeners import RefusingListeners

    path = config_path(chosen)
    notifier = SystemdNotifier.from_environment()
    refusal = RefusingListeners(path, notifier)  # notices a change of the file from now on
    reading = Reading(path)
    from senderproxy.cli.serve import serve  # takes as long as the reading

    return serve(chosen, reading, notifier, refusal)
