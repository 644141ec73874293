from __future__ import annotations

import sys

from hourglass.cli import main

sys.exit(main())
