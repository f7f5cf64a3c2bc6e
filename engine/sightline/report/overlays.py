"""The pictures of a result as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightline.file_names import free_name
from sightline.image import encode_png
from sightline.job.files import make_folder, write_atomically
from sightline.report.figure import draw_figure
from sightline.report.panel import Panel, panels
from sightline.types import Result


def write_overlays(result: Result, folder: Path, *, labels: Sequence[str] = ()) -> list[Path]:
    """Write every picture of a result as a PNG that can be read alone, and return the files, in order.

    A file is named for its photo's id; a result with several pictures per photo adds their names, and pictures of the
    result as a whole are named for the result. Panels without a picture are left out. The same ids give the same
    names, so writing again overwrites.

    Args:
        result: any that has a renderer.
        folder: made for the first picture if it is not there.
        labels: names of the classes, for the titles.

    Raises:
        CannotWrite: no space or no permission.
    """
    taken: set[str] = set()
    written: list[Path] = []
    for row in (None, *range(len(result.photos))):
        base = type(result).__name__ if row is None else result.photos[row].id
        drawn = [panel for panel in panels(result, row) if panel.pixels is not None or panel.cells]
        stem = free_name(base, taken) if drawn else ""
        for panel in drawn:
            if not written:
                make_folder(folder.absolute())
            path = folder / f"{stem}{'.' + panel.name if panel.name else ''}.png"
            title = _title(panel, base if row is not None else "", labels)
            write_atomically(path, [encode_png(draw_figure(panel, title))], durably=False)
            written.append(path)
    return written


def class_name(target: int | None, labels: Sequence[str]) -> str:
    """The label of a class, its number where it has none, nothing where there is no class."""
    if target is None:
        return ""
    return labels[target] if target < len(labels) else f"class {target}"


def _title(panel: Panel, identifier: str, labels: Sequence[str]) -> str:
    return " · ".join(filter(None, (identifier, panel.title, class_name(panel.target, labels))))
