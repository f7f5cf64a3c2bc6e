"""List every method with what it needs."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from sightline import registry


def methods(*, json: Annotated[bool, Parameter(help="Print one JSON list.", negative="")] = False) -> int:
    """List every method with what it needs of a route; ``sightline run METHOD --help`` tells its flags."""
    found = registry.entries().values()
    if json:
        print(json_format.dumps([asdict(entry) for entry in found]))
        return 0
    width = max(len(entry.name) for entry in found)
    for entry in found:
        print(f"{entry.name:<{width}}  {entry.summary}. [{entry.family}, needs {entry.needs}]")
    return 0
