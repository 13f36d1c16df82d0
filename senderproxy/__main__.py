"""Entry point of `python -m senderproxy`, the same as `senderproxy`."""

import sys

from senderproxy.cli.main import main

sys.exit(main())
