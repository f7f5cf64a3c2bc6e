"""From what a user names to a list of inputs."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath

from sightline.errors import NoImages
from sightline.image import is_image, no_image, walk_images
from sightline.job.sources.files import absolute, distinct_names, files_of
from sightline.job.sources.listing import Chain, Listing
from sightline.job.sources.parquet import as_store, parquet_rows
from sightline.job.sources.remote import Remote, remote_files, remote_names
from sightline.job.sources.tar import TarShard

_BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<choices>[^{}]*,[^{}]*))\}")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")  # the first alone is read, see TarShard
_PARQUET = re.compile(r"(?P<file>.+\.parquet)(?::(?P<column>[^/:]+))?$")


@dataclass(frozen=True)
class _Named:
    """One thing that a user named: its kind, place and column, and for a URL what is there."""

    kind: str  # "files", "tar", "parquet" or "url"
    place: str
    column: str | None = None
    found: tuple[Remote, ...] = field(default=(), compare=False)

    @property
    def is_outright(self) -> bool:
        """Whether a URL is that of the one file that is there."""
        return len(self.found) == 1 and self.found[0].url == self.place


def find_inputs(paths: Sequence[Path | str]) -> Chain:
    """The inputs of files, folders, patterns, tar shards, Parquet files and URLs, in the order given.

    A folder is searched for images; one without images for tar shards. Braces are spelt out as WebDataset does it:
    ``train-{000..099}.tar``.

    Raises:
        NoImages: nothing was found.
        UsageError: an archive or a Parquet file that cannot be read as one.
        MissingExtra: a URL whose library is not installed.
    """
    named = [one for path in paths for text in spelt_out(str(path)) for one in _named(text)]
    archives = dict.fromkeys(one.place for one in named if one.kind in ("tar", "parquet"))
    prefixes = dict(
        zip(archives, distinct_names({place: PurePosixPath(place).name for place in archives}), strict=True)
    )
    parts: list[Listing] = []
    for kind, group in groupby(dict.fromkeys(named), key=lambda one: one.kind):
        members = list(group)
        if kind == "files":
            parts.append(files_of([one.place for one in members]))
        for one in members:
            match kind:
                case "tar":
                    parts.append(TarShard(as_store(one.place), prefixes[one.place]))
                case "parquet":
                    parts.append(parquet_rows(as_store(one.place), prefixes[one.place], one.column))
                case "url":
                    parts.append(remote_files(one.found, named=one.is_outright))
                case _:
                    pass
    chain = Chain(parts)
    if not len(chain):
        raise no_image(paths)
    return chain.with_distinct_ids()


def spelt_out(text: str) -> Iterator[str]:
    """Every name that braces stand for.

    >>> list(spelt_out("a-{08..10}.tar"))
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    if Path(text).exists():
        yield text
        return
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    if found["first"] is not None:
        width = len(found["first"])
        choices = [str(number).zfill(width) for number in range(int(found["first"]), int(found["last"]) + 1)]
    else:
        choices = found["choices"].split(",")
    for choice in choices:
        yield from spelt_out(text[: found.start()] + choice + text[found.end() :])


def _named(text: str) -> Iterator[_Named]:
    """What one argument names; a pattern may name several archives."""
    is_url = "://" in text
    if not is_url and Path(text).is_dir():
        yield from _folder(text)
        return
    table = _PARQUET.match(text)
    if table is not None:
        yield from (_Named("parquet", place, table["column"]) for place in _places(table["file"], is_url))
    elif text.lower().endswith(_ARCHIVES):
        yield from (_Named("tar", place) for place in _places(text, is_url))
    elif is_url:
        yield from _behind(text)
    else:
        yield _Named("files", text)


def _places(name: str, is_url: bool) -> list[str]:
    """The archives that a name or a pattern means."""
    if is_url:
        return [found.url for found in remote_names(name)] if glob.has_magic(name) else [name]
    matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    if not matches:
        raise NoImages(f"There is no file {name!r}.")
    return [absolute(match) for match in matches]


def _folder(text: str) -> Iterator[_Named]:
    """A folder of images; or, where there are none, of shards."""
    try:
        next(walk_images([text]))
    except StopIteration:
        shards = sorted(str(path) for path in Path(text).rglob("*.tar") if path.is_file())
        yield from (_Named("tar", absolute(shard)) for shard in shards)
        if shards:
            return
    yield _Named("files", text)


def _behind(url: str) -> Iterator[_Named]:
    """A URL of an image, a pattern or a folder; or, where no images are, of shards."""
    found = tuple(remote_names(url))
    one = _Named("url", url, found=found)
    if not one.is_outright and not any(is_image(PurePosixPath(each.name).name) for each in found):
        shards = [each.url for each in found if each.name.lower().endswith(".tar")]
        yield from (_Named("tar", shard) for shard in shards)
        if shards:
            return
    yield one
