"""Reading targets: from YAML or Python to a checked ``Target``, with every problem told at once."""

from __future__ import annotations
