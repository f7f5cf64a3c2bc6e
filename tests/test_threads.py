"""A number of threads that would take a machine down is refused wherever one may be given."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from sightline import cli, load
from sightline.audit.context import Options
from sightline.bank.projection import tsne
from sightline.bank.search import nearest
from sightline.bench.sweep import Grid
from sightline.errors import UsageError
from sightline.methods.forward.predict import Predict
from sightline.routes.base import Settings
from sightline.textures.quilting import Quilting
from sightline.textures.scanline import Scanline
from sightline.threads import check_threads, most_threads

ROWS = np.zeros((4, 3), np.float32)
TOO_MANY = most_threads() + 1  # no more than that: a fault here must not hurt


@pytest.mark.parametrize(("cores", "most"), [(2, 128), (32, 128), (33, 132), (96, 384), (None, 128)])
def test_four_for_each_core_may_be_asked_for(monkeypatch: pytest.MonkeyPatch, cores: int | None, most: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    for fine in (None, 1, most):
        check_threads(fine)
    with pytest.raises(UsageError, match=rf"^threads={most + 1} is more than the {most} threads"):
        check_threads(most + 1)
    for few in (0, -1):
        with pytest.raises(UsageError, match=rf"^threads={few} must be at least 1"):
            check_threads(few)


CALLS: dict[str, Callable[[int], object]] = {
    "plan": lambda threads: load("demo").plan(Predict(), threads=threads),
    "settings": lambda threads: Settings(threads=threads),
    "audit": lambda threads: Options(threads=threads),
    "bench": lambda threads: Grid(threads=(1, threads)),
    "scanline": lambda threads: Scanline(threads=threads),
    "quilting": lambda threads: Quilting(threads=threads),
    "nearest": lambda threads: nearest(ROWS, [ROWS], k=2, threads=threads),
    "tsne": lambda threads: tsne([ROWS], threads=threads),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_refuse_too_many(name: str) -> None:
    with pytest.raises(UsageError, match=f"threads={TOO_MANY} is more than"):
        CALLS[name](TOO_MANY)


@pytest.mark.parametrize(
    "words",
    [
        "run predict demo x -o y", "plan predict demo", "inspect demo", "units demo x -o y", "index demo x -o y",
        "search x", "embed x -o y", "bench demo", "audit demo demo --images x -o y", "tour demo x -o y", "demo -o y",
        "texture x -o y", "style apply demo x -o y", "style compare demo x --model demo -o y",
        "style train x y --model demo -o z",
    ],
)  # fmt: skip
def test_commands_refuse_too_many(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call([*words.split(), "--threads", str(TOO_MANY)]) == 2
    said = capsys.readouterr().err
    assert "--threads" in said
    assert f"is more than the {most_threads()} threads that may be asked for here" in said
