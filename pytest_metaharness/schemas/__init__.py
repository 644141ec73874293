"""JSON Schemas for people and programs; ``python -m pytest_metaharness.schemas`` writes them anew."""
