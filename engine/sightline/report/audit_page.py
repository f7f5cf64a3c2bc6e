"""The page of an audit: the verdict, what was found, where the two part, and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.audit.gates import Ruling, tally
from sightline.audit.record import Verdict, is_fine
from sightline.audit.run import Audited
from sightline.audit.section import sections
from sightline.colour import number
from sightline.report.template import save_page

WIDTH, HEIGHT = 560, 150  # of a plot
FLIPS = 12  # photographs in the table
FLOOR = 1e-7  # smallest relative difference that the plot of layers tells apart


@dataclass(frozen=True)
class Part:
    """A candidate on the page."""

    audited: Audited
    rulings: Sequence[Ruling]
    folder: Path

    @property
    def passed(self) -> bool:
        """Whether it may be shipped."""
        return is_fine(self.audited, self.rulings)

    @property
    def tally(self) -> str:
        """How many rules hold, fail and were not measured."""
        return tally(self.rulings)

    def details(self, section: str) -> Mapping[str, Any]:
        """Of a section; empty where it did not run."""
        found = self.audited.outcomes.get(section)
        return {} if found is None else found.details

    def picture(self, name: str) -> str:
        """A data URI of a picture that a section left."""
        path = self.folder / name
        if not path.is_file():
            return ""
        return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"

    @property
    def layers(self) -> list[tuple[float, float, str]]:
        """Of each layer that both have: across and up on the plot, and what to say."""
        import math

        rows = self.details("parity").get("layers", [])
        span, count = -math.log10(FLOOR), max(len(rows) - 1, 1)
        return [
            (
                WIDTH * place / count,
                HEIGHT * min(max(-math.log10(max(error, FLOOR)) / span, 0.0), 1.0),
                f"{name}: {error:.2%}",
            )
            for place, (name, error) in enumerate(rows)
        ]

    @property
    def curves(self) -> Iterator[tuple[str, str, str]]:
        """Points of the insertion and deletion curve of every subject."""
        for name, both in self.details("faithfulness").get("curves", {}).items():
            yield name, _points(both["insertion"]), _points(both["deletion"])

    @property
    def withstood(self) -> Iterator[tuple[str, list[str], list[list[Mark]]]]:
        """What stays right the harder it is hit: title, names of the steps, marks of reference and candidate."""
        found = self.details("robustness")
        if kept := found.get("kept"):
            names = [str(one) for one in found["severities"]]
            shares = [  # the mean over kinds of corruption
                [[sum(kind[side][level][0] for kind in kept.values()) / len(kept)] for level in range(len(names))]
                for side in (0, 1)
            ]
            yield f"by severity, {len(kept)} kinds of corruption", names, [_marks(one) for one in shares]
        if curve := found.get("black_box"):
            names = [f"{one:g}/255" for one in curve["epsilons"]]
            title = f"by random squares of up to, {curve['queries']} queries each"
            yield title, names, [_marks(one) for one in curve["withstand"]]

    @property
    def flips(self) -> list[list[Any]]:
        """Photographs that are called something else, the surest first: id, both classes, both probabilities."""
        return self.details("parity").get("flips", [])[:FLIPS]

    @property
    def figures(self) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        """By section: figure, value and meaning."""
        for section in sections():
            outcome = self.audited.outcomes.get(section.name)
            if outcome is not None:
                yield (
                    section.name,
                    [
                        (
                            name,
                            "not measured" if (value := outcome.figures.get(name)) is None else number(value),
                            meaning,
                        )
                        for name, meaning in section.figures.items()
                    ],
                )


@dataclass(frozen=True)
class Mark:
    """A share on a plot: where it lies, and its interval, if one is known."""

    x: float
    y: float
    low: float
    high: float
    told: str


def _marks(shares: Sequence[Sequence[float]]) -> list[Mark]:
    """Of shares, each alone or with both ends of its interval."""
    last = max(len(shares) - 1, 1)
    found = list[Mark]()
    for place, (share, *interval) in enumerate(shares):
        low, high = interval or (share, share)
        told = f"{share:.0%}" + (f" ({low:.0%} to {high:.0%})" if interval else "")
        x = (WIDTH / 2 - 20) * place / last
        y, bottom, top = (HEIGHT * (1 - one) for one in (share, low, high))
        found.append(Mark(x, y, bottom, top, told))
    return found


def _points(curve: Sequence[float]) -> str:
    last = max(len(curve) - 1, 1)
    return " ".join(f"{WIDTH / 2 * n / last:.1f},{HEIGHT * (1 - value):.1f}" for n, value in enumerate(curve))


def write_page(path: Path, verdict: Verdict, folders: Sequence[Path]) -> Path:
    """Write it; pictures come from the candidates' folders."""
    pairs = zip(verdict.candidates, folders, strict=True)
    parts = [Part(audited, rulings, folder) for (audited, rulings), folder in pairs]
    return save_page(path, "audit.html", verdict=verdict, parts=parts, width=WIDTH, height=HEIGHT)
