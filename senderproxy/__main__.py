"""`python -m senderproxy` is the same as `senderproxy`."""

import sys

from senderproxy.cli.main import main

sys.exit(main())
