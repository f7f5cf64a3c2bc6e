"""Image files of this machine: folders, patterns, names."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from sightline.image import walk_images
from sightline.job.inputs import Input, printable
from sightline.job.sources.listing import Listing, repeated_ids
from sightline.job.sources.texts import Texts


class Files(Listing):
    """Image files, each below one of a few folders.

    An id is the path relative to the folder that was given, or the file's name where no folder was given. Where two
    would be equal, both take as many of the folders above as tell them apart.
    """

    def __init__(self, roots: Sequence[str], names: Texts, root_of: array[int], ids: Texts | None = None):
        self._roots, self._names, self._root_of, self._ids = roots, names, root_of, ids

    def __len__(self) -> int:
        return len(self._names)

    def at(self, position: int) -> Input:
        name = self._names[position]
        path = Path(self._roots[self._root_of[position]], name)
        return Input(printable(name) if self._ids is None else self._ids[position], path)


def files_of(paths: Sequence[str]) -> Files:
    """The images below folders and among files and patterns, each once.

    Raises:
        NoImages: a path does not exist, or a pattern matches nothing.
    """
    folders = [absolute(given) for given in paths if Path(given).is_dir()]
    roots: dict[str, int] = {}
    names, root_of = Texts(), array("I")
    seen: set[str] | None = set() if len(paths) > 1 else None  # one folder names no file twice
    for found in walk_images(paths):
        path = absolute(found)
        if seen is not None:
            if path in seen:
                continue
            seen.add(path)
        root = next((folder for folder in folders if _below(path, folder)), os.path.dirname(path))  # noqa: PTH120
        root_of.append(roots.setdefault(root, len(roots)))
        names.append(path[len(root) :].lstrip("/"))
    listing = Files(list(roots), names, root_of)
    if repeated_ids(listing):
        wished = {str(one.path): name for one, name in zip(listing, names, strict=True)}
        listing = Files(list(roots), names, root_of, Texts(distinct_names(wished)))
    return listing


def distinct_names(wished: dict[str, str]) -> list[str]:
    """The wished name of each path, lengthened by the folders above until they differ."""
    parts = {path: PurePath(path).parts for path in wished}
    depth = {path: len(PurePath(name).parts) for path, name in wished.items()}
    chosen = {path: printable(name) for path, name in wished.items()}
    while True:
        count = Counter(chosen.values())
        short = [path for path, name in chosen.items() if count[name] > 1 and depth[path] < len(parts[path])]
        if not short:
            break
        for path in short:
            depth[path] += 1
            chosen[path] = printable(PurePath(*parts[path][-depth[path] :]).as_posix())
    return _numbered(chosen.values())


def absolute(path: str) -> str:
    """The path from the root; links and names stay as they are."""
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links and change names


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder if folder.endswith("/") else folder + "/")


def _numbered(names: Iterable[str]) -> list[str]:
    """Equal to the end only where an escape looks like another file's name."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return found
