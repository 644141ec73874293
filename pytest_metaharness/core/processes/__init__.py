"""Starting programs, containing them, and ending them for certain."""

from __future__ import annotations
