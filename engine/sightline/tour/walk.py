"""Through all chapters, one after the other; what one cannot answer does not stop the next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sightline.errors import SightlineError
from sightline.tour.chapter import Chapter, Visited, chapters
from sightline.tour.visit import Visit


def walk(visit: Visit, wanted: Sequence[str] = ()) -> Iterator[Visited]:
    """Each chapter as soon as it is answered; only those named, if any are."""
    for chapter in chapters():
        if not wanted or chapter.name in wanted:
            yield _visited(chapter, visit)


def _visited(chapter: Chapter, visit: Visit) -> Visited:
    start = time.perf_counter()
    try:
        answer = chapter.visit(visit)
    except SightlineError as reason:
        return Visited(chapter, None, str(reason), time.perf_counter() - start)
    return Visited(chapter, answer, "", time.perf_counter() - start)
