"""Frames of a film, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import BadImage
from sightline.types import ByteArray

SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
FASTEST = 50  # frames per second that ``film`` writes


@dataclass(frozen=True)
class Film:
    """A film on disk.

    Attributes:
        path: of it.
        rate: frames per second, rounded.
    """

    path: Path
    rate: int

    def frames(self) -> Iterator[ByteArray]:
        """(H, W, 3) uint8 sRGB, decoded as they are asked for.

        Raises:
            BadImage: the film is damaged.
        """
        import av
        from av.error import FFmpegError

        try:
            with av.open(str(self.path)) as container:
                for frame in container.decode(video=0):
                    yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
        except FFmpegError as reason:
            raise BadImage(f"{self.path} cannot be decoded: {reason}.") from reason


def open_film(path: Path) -> Film:
    """The film in a file.

    Raises:
        BadImage: it cannot be read, or shows nothing.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadImage(f"{path} has no picture. Give a film.")
            rate = container.streams.video[0].average_rate
    except (FFmpegError, OSError) as reason:
        raise BadImage(f"{path} cannot be read as a film: {reason}.") from reason
    return Film(path, int(np.clip(round(rate or 25), 1, FASTEST)))
