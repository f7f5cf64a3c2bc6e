"""A page of queries and their nearest images, in every space side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.colour import number
from sightline.report.template import save_page
from sightline.report.thumbnails import inline, thumbnail

if TYPE_CHECKING:
    from sightline.bank.agreement import LabelAgreement
    from sightline.bank.bank import Bank

SIDE = 160  # pixels of a picture; shown at half of it, for screens of double density


@dataclass(frozen=True)
class Answer:
    """One query.

    Attributes:
        id, path: of the image.
        near: by the space's name, rows of the bank and their scores, nearest first.
    """

    id: str
    path: str
    near: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class _Page:
    bank: Bank
    answers: Sequence[Answer]
    agreements: Sequence[LabelAgreement]
    labels: Sequence[str]
    metric: str

    @property
    def facts(self) -> Mapping[str, object]:
        header = self.bank.header
        named = {"model": header.model} if header.model else {}
        return {
            **named,
            "images": f"{len(self.bank):,}",
            "spaces": ", ".join(map(str, self.bank.spaces)),
            "score": {"l2": "Euclidean distance", "cosine": "cosine distance", "inner_product": "inner product"}[
                self.metric
            ],
        }

    def rows(self, answer: Answer) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
        """Per space: picture, id, score and label of each neighbour."""
        for space, near in answer.near.items():
            yield (
                space,
                [
                    (
                        picture(self.bank.paths[row]),
                        self.bank.ids[row],
                        number(score),
                        self.labels[row] if self.labels else "",
                    )
                    for row, score in near
                ],
            )

    def picture(self, answer: Answer) -> str:
        """Of the query."""
        return picture(answer.path)


@lru_cache(maxsize=4096)
def picture(path: str) -> str:
    """A data URI, "" where there is no image any more."""
    pixels = thumbnail(path, SIDE)
    return "" if pixels is None else inline(pixels)


def write_neighbours(
    path: Path,
    bank: Bank,
    answers: Sequence[Answer],
    agreements: Sequence[LabelAgreement],
    labels: Sequence[str],
    metric: str,
) -> Path:
    """Write the page; pictures are read from where the bank read them."""
    return save_page(path, "neighbours.html", page=_Page(bank, answers, agreements, labels, metric))
