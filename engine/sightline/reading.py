"""Photographs read as a model wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sightline.errors import UsageError
from sightline.job.inputs import inputs_from, load_photo
from sightline.model import Model
from sightline.types import Batch


def read(paths: Path | str | Sequence[Path | str], *, like: Model, limit: int | None = None) -> Batch:
    """Read photographs into one batch in the model's input space.

    Args:
        paths: files, folders or glob patterns.
        like: the model whose preprocessing applies.
        limit: at most so many, in order.

    Raises:
        NoImages: nothing was found.
        BadImage: a file cannot be read; ``sightline run`` sets such files aside and goes on.
        MissingPreprocess: the model does not say how images become its input.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit} must be at least 1.")
    load = load_photo(like.photograph)
    inputs = inputs_from([paths] if isinstance(paths, str | Path) else list(paths))
    tensors, photos = zip(*(load(one) for one in inputs.entries[:limit]), strict=True)
    return Batch(np.stack(tensors), photos)
