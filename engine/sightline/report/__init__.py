"""Reports: photographs, predictions and maps on one page that stands alone, and the same pictures as files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType

from sightline.errors import UsageError
from sightline.report.overlays import write_overlays
from sightline.report.page import Report, labels_of
from sightline.types import Batch, Photo, Result

__all__ = ["Report", "report", "write_overlays"]


def report(
    photos: Batch | Sequence[Photo],
    results: Sequence[Result],
    *,
    title: str = "What the network sees",
    model: Mapping[str, object] | None = None,
    predictions: Result | None = None,
    labels: Sequence[str] = (),
    limit: int = 64,
    set_aside: Sequence[tuple[str, str]] = (),
    made: datetime | None = None,
) -> Report:
    """A page with every photo, what the model says of it, and the pictures of every result.

    Args:
        photos: what to show; results are matched to them by id.
        results: of any methods; those without photos get a section of their own.
        title: the page's heading.
        model: facts about the model, shown as they are.
        predictions: shown first beside each photo; the same as putting them first among ``results``.
        labels: names of the classes; by default those that the predictions carry.
        limit: photos on the page at most, in the order given; each takes some 20 kB a picture.
        set_aside: ids of images that have no result, each with the reason.
        made: the time at the page's foot; now, by default.

    Raises:
        UsageError: a result has rows but none for any of the photos, or has no renderer, or ``limit`` is below 1.
    """
    shown = photos.photos if isinstance(photos, Batch) else tuple(photos)
    every = (predictions, *results) if predictions is not None else tuple(results)
    if limit < 1:
        raise UsageError(f"limit={limit} must be at least 1.")
    known = {photo.id for photo in shown}
    for result in every:
        if result.photos and not any(photo.id in known for photo in result.photos):
            raise UsageError(
                f"{type(result).__name__} has rows for {result.photos[0].id!r} and {len(result.photos) - 1} more, "
                f"none of which is among the {len(shown)} photos of this report. Give those that it was made from."
            )
    moment = made or datetime.now(UTC)
    names = tuple(labels) or labels_of(every)
    return Report(shown, every, title, model or {}, names, limit, moment, tuple(set_aside))


class _Verb(ModuleType):
    """Lets ``sightline.report(…)`` be called, although Python puts this package where the function would be."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Verb
