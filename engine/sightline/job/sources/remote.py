"""Image files behind a URL, listed with their sizes."""

from __future__ import annotations

import glob
from array import array
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from sightline.errors import BadImage, NoImages
from sightline.image import is_image
from sightline.job.inputs import Input
from sightline.job.sources.listing import Listing
from sightline.job.sources.store import RemoteImage, opened, patiently
from sightline.job.sources.texts import Texts


class RemoteFiles(Listing):
    """Images below one URL; an id is the path relative to it."""

    def __init__(self, urls: Texts, ids: Texts, sizes: array[int]):
        self._urls, self._ids, self._sizes = urls, ids, sizes

    def __len__(self) -> int:
        return len(self._urls)

    def at(self, position: int) -> Input:
        return Input(self._ids[position], None, RemoteImage(self._urls[position], self._sizes[position]))


class Remote(NamedTuple):
    """A file behind a URL."""

    url: str
    name: str  # relative to what was given
    size: int  # bytes, -1 where the listing does not say


def remote_names(url: str) -> list[Remote]:
    """What a URL names: a folder's files, those that fit a pattern, or the file itself; sorted, with their sizes.

    Raises:
        NoImages: nothing is there.
        MissingExtra: a library is missing.
    """
    system, path = opened(url)
    protocol = url.partition("://")[0]

    def full(name: str) -> str:
        return url if name == path else f"{protocol}://{name.removeprefix(protocol + '://')}"

    try:
        if glob.has_magic(path):
            found: dict[str, Any] = patiently(lambda: system.glob(path, detail=True), url)
            base = path[: next(at for at, letter in enumerate(path) if letter in "*?[")].rpartition("/")[0]
        elif patiently(lambda: system.isdir(path), url):
            found, base = patiently(lambda: system.find(path, detail=True), url), path
        else:
            found, base = {path: patiently(lambda: system.info(path), url)}, path.rpartition("/")[0]
    except BadImage as reason:
        raise NoImages(f"{url} cannot be listed: {reason}") from reason
    files = {name: info for name, info in found.items() if info.get("type") != "directory"}
    if not files:
        raise NoImages(f"Nothing is at {url}. Give a file, a folder or a pattern.")
    sizes = {name: files[name].get("size") for name in sorted(files)}
    return [
        Remote(full(name), name.removeprefix(base).lstrip("/"), -1 if size is None else int(size))
        for name, size in sizes.items()
    ]


def remote_files(found: Sequence[Remote], *, named: bool) -> RemoteFiles:
    """The images among what a URL names; one that is ``named`` outright is taken whatever its suffix."""
    urls, ids, sizes = Texts(), Texts(), array("q")
    for one in found:
        if named or is_image(PurePosixPath(one.name).name):
            urls.append(one.url)
            ids.append(one.name)
            sizes.append(one.size)
    return RemoteFiles(urls, ids, sizes)
