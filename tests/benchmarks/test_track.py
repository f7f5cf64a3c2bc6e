"""``benchmarks/track.py`` as it is called, on tables written by hand."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.test_compare import measurement, table

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "track.py"


def runs(values: list[float], *, theirs: list[float] | None = None, spread: float = 0.01, **others: Any) -> list[Any]:
    """One measurement a day, quartiles at ± half of the spread; the peer at 10 unless told."""
    found = list[Any]()
    for day, value in enumerate(values):
        ours, peer = measurement(
            f"2026-01-{day + 1:02d}T00:00:00Z", value, 10.0 if theirs is None else theirs[day], **others
        )
        ours |= {"low": value * (1 - spread / 2), "high": value * (1 + spread / 2)}
        found += [ours, peer]
    return found


def track(folder: Path, *rows: dict[str, Any], words: tuple[str, ...] = ()) -> tuple[int, str]:
    table(folder / "results", *rows)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--results", str(folder / "results"), *words], capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "spread", "code", "says"),
    [
        ([100, 100, 100, 93], 0.01, 1, "1 regression"),
        ([100, 100, 100, 96], 0.01, 0, "1 steady"),  # below 5 %
        ([100, 100, 100, 80], 0.20, 0, "1 steady"),  # quartiles 20 % apart: two deviations of both are 42 %
        ([100, 100, 100, 110], 0.01, 0, "1 improvement"),
        ([80, 120, 100, 130, 70, 88], 0.01, 0, "1 steady"),  # runs differ from each other far more than within
        ([100], 0.01, 0, "1 first"),
        ([100, 100, 93, 100], 0.01, 0, "1 steady"),  # the last run counts
        ([93, 100, 100, 100, 100, 100, 93], 0.01, 1, "1 regression"),
    ],
)
def test_what_is_beyond_the_noise(tmp_path: Path, values: list[float], spread: float, code: int, says: str) -> None:
    found, said = track(tmp_path, *runs(values, spread=spread))
    assert (found, says in said) == (code, True), said


def test_the_floor_is_that_of_the_quartiles(tmp_path: Path) -> None:
    """Rounds are drawn normally: twice the deviation of both runs, which the quartiles estimate."""
    draw = random.Random(0)
    rows, deviation = list[Any](), 0.04
    for day, level in enumerate((100.0, 100.0, 88.0)):
        low, middle, high = statistics.quantiles([draw.gauss(level, deviation * level) for _ in range(4000)], n=4)
        (ours, peer) = measurement(f"2026-01-{day + 1:02d}T00:00:00Z", middle, 10.0)
        rows += [ours | {"low": low, "high": high}, peer]
    code, said = track(tmp_path, *rows)
    assert code == 1
    told = float(said.partition("beyond ")[2].partition("%")[0])
    assert told == pytest.approx(100 * 2 * 2**0.5 * deviation, rel=0.08)


def test_lower_is_better_for_times(tmp_path: Path) -> None:
    longer = runs([1.0, 1.0, 1.2], theirs=[0.5] * 3, metric="wall time", unit="s")
    for row in longer[::2]:
        row["ratio"] = 0.5 / row["value"]
    assert track(tmp_path, *longer)[0] == 1
    shorter = runs([1.0, 1.0, 0.8], theirs=[0.5] * 3, metric="wall time", unit="s")
    for row in shorter[::2]:
        row["ratio"] = 0.5 / row["value"]
    code, said = track(tmp_path, *shorter)
    assert (code, "1 improvement" in said) == (0, True)


def test_a_machine_that_slowed_down_is_no_regression(tmp_path: Path) -> None:
    code, said = track(tmp_path, *runs([100, 100, 80], theirs=[10, 10, 8]))
    assert (code, "1 machine" in said) == (0, True)
    code, said = track(tmp_path, *runs([100, 100, 80], theirs=[10, 10, 9.9]))
    assert code == 1, "the peer did not change"


def test_disturbed_runs_judge_nothing(tmp_path: Path) -> None:
    rows = runs([100, 100, 100, 80])
    rows[-2]["others"] = 0.5
    code, said = track(tmp_path, *rows)
    assert (code, "1 disturbed" in said) == (0, True)
    rows = runs([100, 100, 50, 100, 92])
    rows[4]["others"] = 0.5
    code, said = track(tmp_path, *rows)
    assert code == 1, "what was disturbed before does not widen the floor"
    assert "100 -> 92 windows/s (-8.0%" in said


def test_devices_and_threads_are_kept_apart(tmp_path: Path) -> None:
    rows = [*runs([100, 100]), *runs([50, 50], device="other"), *runs([20, 20], threads=1)]
    code, said = track(tmp_path, *rows)
    assert (code, "3 steady" in said) == (0, True)


def test_a_change_that_was_meant_is_forgotten(tmp_path: Path) -> None:
    rows = runs([100, 100, 80, 80])
    assert track(tmp_path, *rows)[0] == 1
    code, said = track(tmp_path, *rows, words=("--since", "2026-01-03"))
    assert (code, "1 steady" in said) == (0, True)
    assert track(tmp_path, *rows, words=("--share", "30"))[0] == 0


def test_wrong_calls(tmp_path: Path) -> None:
    assert track(tmp_path, *runs([100]), words=("--only", "absent"))[0] == 2
    assert track(tmp_path, *runs([100]), words=("--share", "0"))[0] == 2
    assert track(tmp_path, *runs([100]), words=("--since", "yesterday"))[0] == 2


class Page(HTMLParser):
    """What a page loads, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.circles, self.titles, self.loads = 0, 0, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.circles += tag == "circle"
        self.titles += tag == "title"
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone(tmp_path: Path) -> None:
    rows = [*runs([100, 100, 80]), *runs([5, 5], case="<b>&", benchmark="other")]
    code, _ = track(tmp_path, *rows, words=("-o", str(tmp_path / "page.html")))
    assert code == 1
    text = (tmp_path / "page.html").read_text()
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert page.circles == 2 * (3 + 2), "ours and the peer's"
    assert "&lt;b&gt;&amp;" in text
    assert "<b>&" not in text
    assert "1 fell behind" in text
