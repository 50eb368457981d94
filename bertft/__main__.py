"""``python -m bertft`` is ``bertft``."""

import sys

from bertft.cli.app import main

sys.exit(main())
