"""The search itself: targets, settings, store, evaluation, processes. Knows neither pytest nor backends."""

from __future__ import annotations
