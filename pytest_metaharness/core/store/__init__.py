"""Workspaces as snapshots: read from folders and repositories, kept in git, written out exactly."""

from __future__ import annotations
