"""Class names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sightline.errors import BadModel, UsageError

LABELS_KEY = "sightline.labels"  # in a model's metadata: a JSON list


def recorded_labels(metadata: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Class names that a model's metadata carry, none if they carry none.

    Raises:
        BadModel: they are no JSON list of names.
    """
    text = metadata.get(LABELS_KEY, "[]")
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
        raise BadModel(
            f"The metadata {LABELS_KEY!r} of {path} are no JSON list of names: {text[:40]!r}. Export the model again."
        )
    return tuple(cast("list[str]", names))


def read_labels(labels: Sequence[str] | Path | str | None) -> tuple[str, ...] | None:
    """Class names from a sequence, a JSON list (or index -> name object), or a text file with one a line.

    Raises:
        UsageError: the file is missing, empty or of another form.
    """
    if labels is None or not isinstance(labels, str | Path):
        return None if labels is None else tuple(labels)
    path = Path(labels)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        raise UsageError(
            f"Labels cannot be read from {path}: {reason}. Pass a JSON list or one label a line."
        ) from None
    if path.suffix.lower() != ".json":
        return _some([line.strip() for line in text.rstrip().splitlines()], path)  # an empty one has no name
    try:
        content = json.loads(text)
    except json.JSONDecodeError as reason:
        raise UsageError(f"{path} is not JSON ({reason}). Pass a JSON list of labels.") from None
    if isinstance(content, dict):
        entries = cast("dict[str, Any]", content)
        if set(entries) != {str(index) for index in range(len(entries))}:
            raise UsageError(
                f"{path} must name every class from 0 to {len(entries) - 1} once. Pass a JSON list of labels."
            )
        content = [entries[str(index)] for index in range(len(entries))]
    if not isinstance(content, list):
        raise UsageError(f"{path} holds no list. Pass a JSON list of labels.")
    names = [entry[-1] if isinstance(entry, list) else entry for entry in cast("list[Any]", content)]
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"{path} holds something else than names. Pass a JSON list of labels.")
    return _some(names, path)


def _some(names: Sequence[str], path: Path) -> tuple[str, ...]:
    if not any(names):
        raise UsageError(f"{path} names no class. Pass a JSON list of labels, or one label a line.")
    return tuple(names)
