"""Measuring a candidate: the kinds of checks, and the clean room in which they run."""

from __future__ import annotations
