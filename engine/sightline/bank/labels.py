"""Labels of images, as a bank's user knows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.errors import UsageError

RULES = "folder (the name of the folder), number (that begins the file's name), or a CSV or Parquet file: id, label"


def labels_of(rule: str, ids: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    """A label for each image.

    Args:
        rule: ``folder``, ``number``, or a table with columns ``id`` and ``label``.
        ids: of the images.
        paths: of the images, "" where there is none.

    Raises:
        UsageError: the rule is none of these, or it leaves an image without a label.

    >>> labels_of("number", ["007_cat.jpg", "12.png"], ["", ""])
    ('7', '12')
    """
    if rule == "folder":
        found = [PurePosixPath(path or one).parent.name for one, path in zip(ids, paths, strict=True)]
    elif rule == "number":
        numbers = [re.match(r"\d+", PurePosixPath(one).name) for one in ids]
        found = ["" if number is None else str(int(number[0])) for number in numbers]
    else:
        table = _table(Path(rule))
        found = [table.get(one, "") for one in ids]
    missing = [one for one, label in zip(ids, found, strict=True) if not label]
    if missing:
        raise UsageError(
            f"--labels-by {rule} gives {len(missing)} of {len(ids)} images no label, {missing[0]!r} among them. "
            f"Accepted: {RULES}."
        )
    return tuple(found)


def _table(path: Path) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    text = {"id": pa.string(), "label": pa.string()}
    try:
        if path.suffix == ".csv":
            table: Any = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=text))
        else:
            table = pq.read_table(path)
    except (OSError, pa.ArrowException) as reason:
        raise UsageError(f"--labels-by {path} cannot be read: {reason}. Accepted: {RULES}.") from reason
    if not {"id", "label"} <= set(table.column_names):
        raise UsageError(f"{path} has the columns {', '.join(table.column_names)}; id and label are needed.")
    ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
    return {str(one): str(label) for one, label in zip(ids, labels, strict=True) if label is not None}
