"""Options of every benchmark, and what they share: a session, a race, networks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import FAMILIES, MAKERS, Network, family
from recording import QUIET, Race, Row, Session

HERE = Path(__file__).parent
SESSION = pytest.StashKey[Session]()
ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sightline's benchmarks")
    group.addoption("--threads", type=int, default=2, help="of every subject (2)")
    group.addoption("--rounds", type=int, default=5, help="in each of which every subject runs once (5)")
    group.addoption(
        "--results", type=Path, default=HERE / "results", help="folder of the tables (benchmarks/results)"
    )
    group.addoption("--window", type=int, default=16, help="of occlusion, pixels (16)")
    group.addoption("--masks", type=int, default=4000, help="of RISE (4000)")
    group.addoption("--photographs", type=int, default=100, help="that are attacked (100)")
    group.addoption("--stride", type=int, default=8, help="of occlusion, pixels (8)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    config.stash[SESSION] = Session.begin(
        threads=config.option.threads,
        rounds=config.option.rounds,
        results=config.option.results,
        command=shlex.join(["pytest", *_arguments(sys.argv[1:])]),
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section(f"side by side, {config.stash[SESSION].threads} threads, median (quartiles)")
    for row in rows:
        ratio = (
            ""
            if row.ratio is None
            else f"   {row.ratio:.2f}x ({row.ratio_low:.2f}-{row.ratio_high:.2f}) of {row.ratio_to}"
        )
        figures = f"{row.value:8.4g} ({row.low:.4g}-{row.high:.4g}) {row.unit}"
        terminalreporter.write_line(f"{row.benchmark}, {row.case}: {row.subject:22} {figures}{ratio}")
    terminalreporter.write_line(f"Appended to {config.stash[SESSION].path.name}.")
    most = max((row.others for row in rows if row.others is not None), default=0.0)
    if most > QUIET:
        terminalreporter.write_line(
            f"Disturbed: others used up to {most:.0%} of the cores. Measure again on a quiet machine.", yellow=True
        )


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    return pytestconfig.stash[SESSION]


@pytest.fixture
def race(session: Session, benchmark: Any, request: pytest.FixtureRequest) -> Any:
    """Measures subjects side by side; see ``recording.Race``. The benchmark's name is its file's."""
    name = request.path.stem.removeprefix("bench_")

    def run(*subjects: Any, **options: Any) -> list[Row]:
        rows = Race(session, benchmark, name)(*subjects, **options)
        request.config.stash[ROWS].extend(rows)
        return rows

    return run


@pytest.fixture(scope="session", params=MAKERS)
def network(
    request: pytest.FixtureRequest, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    """Each network in turn, as a torch module and as a model of the same weights."""
    made = MAKERS[request.param](tmp_path_factory.mktemp(request.param), session.threads)
    yield made
    made.model.close()


@pytest.fixture(scope="session", params=FAMILIES)
def relative(
    request: pytest.FixtureRequest, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    """One network of each of the families that gain little from an incremental sweep."""
    made = family(request.param, tmp_path_factory.mktemp(request.param), session.threads)
    yield made
    made.model.close()


def _arguments(given: list[str]) -> list[str]:
    """The command line without what names this machine: paths are shortened to their last part."""
    return [Path(word).name if Path(word).is_absolute() else word for word in given]
