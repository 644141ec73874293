"""Write the schemas beside this file, from the definitions that the program itself uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..core.runfolder import write_atomically
from ..core.targets.fields import target_json_schema
from ..registry import get_schemas
from ..reports import build_schema

FOLDER = Path(__file__).parent


def build_schemas() -> Mapping[str, bytes]:
    """Give the content of each file by its name: the report's, and for editors that of target files."""
    schemas = {"report.schema.json": build_schema(), "target.schema.json": target_json_schema(get_schemas())}
    return {name: (json.dumps(schema, indent=2) + "\n").encode() for name, schema in schemas.items()}


if __name__ == "__main__":
    for name, content in build_schemas().items():
        write_atomically(FOLDER / name, content)
