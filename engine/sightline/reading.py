"""Photographs read as a model wants them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sightline.errors import NoImages
from sightline.image import find_images, read_image
from sightline.model import Model
from sightline.types import Batch, FloatArray, Photo


def read(paths: Path | str | Sequence[Path | str], *, like: Model, limit: int | None = None) -> Batch:
    """Read photographs into one batch in the model's input space.

    Args:
        paths: files, folders or glob patterns.
        like: the model whose preprocessing applies.
        limit: at most so many, in order.

    Raises:
        NoImages: nothing was found.
        BadImage: a file cannot be read; use ``sightline run``, which sets such files aside and goes on.
        MissingPreprocess: the model does not say how images become its input.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files = find_images([Path(path) for path in given])[:limit]
    if not files:
        raise NoImages(f"No image was asked for (limit={limit}).")
    tensors, photos = zip(*(read_one(path, path.name, like) for path in files), strict=True)
    return Batch(np.stack(tensors), photos)


def read_one(path: Path, identity: str, like: Model) -> tuple[FloatArray, Photo]:
    """The model's input (C, H, W) for one file, and the photo.

    Raises:
        BadImage: the file cannot be read.
    """
    from sightline.errors import BadImage

    try:
        content = path.read_bytes()
    except OSError as reason:
        raise BadImage(f"{path}: {reason.strerror or reason}") from reason
    photo = Photo(identity, path, hashlib.sha256(content).hexdigest())
    return like.photograph(read_image(content), photo)
