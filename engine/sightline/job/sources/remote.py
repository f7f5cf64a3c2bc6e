"""Image files behind a URL, listed with their sizes."""

from __future__ import annotations

import glob
from array import array
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

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


def remote_names(url: str) -> tuple[str, list[tuple[str, int]]]:
    """What a URL names: a folder's files, those that fit a pattern, or the file itself; sorted, with their sizes.

    Returns the URL that ids are relative to, and URL and size (-1 where unknown) of each.

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
    names = [
        (full(name), int(-1 if files[name].get("size") is None else files[name]["size"])) for name in sorted(files)
    ]
    return full(base), names


def remote_files(base: str, found: Sequence[tuple[str, int]], *, named: bool) -> RemoteFiles:
    """The images among what a URL names; one that is ``named`` outright is taken whatever its suffix."""
    urls, ids, sizes = Texts(), Texts(), array("q")
    for url, size in found:
        if named or is_image(PurePosixPath(url).name):
            urls.append(url)
            ids.append(url.removeprefix(base).lstrip("/") or PurePosixPath(url).name)
            sizes.append(size)
    return RemoteFiles(urls, ids, sizes)
