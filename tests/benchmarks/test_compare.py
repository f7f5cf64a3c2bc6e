"""``benchmarks/compare.py`` as it is called, on tables written by hand."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compare.py"
COLUMNS = [
    "date", "device", "processor", "cores", "threads", "sightline", "commit", "torch", "onnxruntime", "captum",
    "numpy", "benchmark", "case", "subject", "metric", "unit", "value", "low", "high", "rounds", "ratio_to", "ratio",
    "ratio_low", "ratio_high", "others", "command",
]  # fmt: skip
EMPTY = "\n".join(
    f"<!-- {name}:begin -->\nEverything is not measured yet: `make bench`.\n<!-- {name}:end -->"
    for name in ("truth", "purity")
)
README = f"# Title\n\nBefore.\n<!-- benchmarks:begin -->\nold\n<!-- benchmarks:end -->\n{EMPTY}\nAfter.\n"


def measurement(
    date: str, ours: float, theirs: float, *, case: str = "Net", benchmark: str = "occlusion", **others: Any
) -> list[dict[str, Any]]:
    """Two rows: ours with its claim, and the peer."""
    known: dict[str, Any] = {
        "date": date, "device": "abacus-2core", "processor": "cpu", "cores": 2, "threads": 2, "sightline": "0.1.0",
        "commit": "1234567", "torch": "2.15.0", "onnxruntime": "1.32.0", "captum": "0.9.0", "numpy": "2.0.0",
        "benchmark": benchmark, "case": case, "metric": "throughput", "unit": "windows/s", "rounds": 5,
        "others": 0.01, "command": "pytest benchmarks", **others,
    }  # fmt: skip
    ratio = ours / theirs
    return [
        {**known, "subject": "sightline", "value": ours, "low": ours - 1, "high": ours + 1, "ratio_to": "captum",
         "ratio": ratio, "ratio_low": ratio - 0.1, "ratio_high": ratio + 0.1},
        {**known, "subject": "captum", "value": theirs, "low": theirs - 1, "high": theirs + 1, "ratio_to": "",
         "ratio": "", "ratio_low": "", "ratio_high": ""},
    ]  # fmt: skip


def table(folder: Path, *rows: dict[str, Any], columns: list[str] = COLUMNS, name: str = "abacus-2core.csv") -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def compare(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def readme_of(folder: Path, *arguments: object) -> str:
    readme = folder / "README.md"
    readme.write_text(README)
    done = compare("--readme", readme, "--results", folder / "results", *arguments)
    assert done.returncode == 0, done.stderr
    return readme.read_text()


def test_the_table_replaces_what_is_between_the_markers(tmp_path: Path) -> None:
    table(tmp_path / "results", *measurement("2026-01-02T03:04:05Z", 150.0, 50.0))
    head, _, rest = readme_of(tmp_path).partition("<!-- benchmarks:begin -->")
    shown, _, tail = rest.partition("<!-- benchmarks:end -->")
    assert (head, tail) == ("# Title\n\nBefore.\n", f"\n{EMPTY}\nAfter.\n")
    assert "| occlusion | Net | **3.0×** (2.9–3.1): 150 against 50 windows/s of captum | not measured |" in shown
    assert "| abacus-2core | GPU |" in shown
    assert "2 threads on 2 cores, 2026-01-02; median of 5 rounds" in shown


def test_the_last_run_of_each_benchmark_on_each_device_counts(tmp_path: Path) -> None:
    gone = measurement("2025-12-01T00:00:00Z", 10.0, 5.0, case="a case that is no more")
    kept = measurement("2026-01-01T00:00:00Z", 9.0, 6.0, benchmark="predict", case="Other")
    table(
        tmp_path / "results",
        *gone,
        *kept,
        *measurement("2026-01-01T00:00:00Z", 10.0, 5.0),
        *measurement("2026-01-02T00:00:00Z", 80.0, 20.0),
    )
    table(
        tmp_path / "results",
        *measurement("2026-01-01T00:00:00Z", 700.0, 100.0, device="gigant", processor="gpu"),
        name="gigant.csv",
    )
    shown = readme_of(tmp_path)
    assert "no more" not in shown
    assert "| benchmark | case | abacus-2core | gigant |" in shown
    assert "| **4.0×** (3.9–4.1): 80 against 20 windows/s of captum | **7.0×**" in shown
    assert "| predict | Other | **1.5×** (1.4–1.6): 9 against 6 windows/s of captum | not measured |" in shown


def test_without_any_row_nothing_is_claimed(tmp_path: Path) -> None:
    table(tmp_path / "results")
    assert "Everything is not measured yet" in readme_of(tmp_path)


def test_check_tells_a_stale_readme_and_leaves_it_alone(tmp_path: Path) -> None:
    table(tmp_path / "results", *measurement("2026-01-02T03:04:05Z", 150.0, 50.0))
    readme, results = tmp_path / "README.md", tmp_path / "results"
    readme.write_text(README)
    done = compare("--readme", readme, "--results", results, "--check")
    assert (done.returncode, readme.read_text()) == (1, README)
    assert "stale" in done.stderr
    readme_of(tmp_path)
    assert compare("--readme", readme, "--results", results, "--check").returncode == 0


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "results")
    (tmp_path / "README.md").write_text("nothing\n")
    done = compare("--readme", tmp_path / "README.md", "--results", tmp_path / "results")
    assert done.returncode == 2
    assert "benchmarks:begin" in done.stderr


def test_changes_between_the_last_two_measurements(tmp_path: Path) -> None:
    table(
        tmp_path / "results",
        *measurement("2026-01-01T00:00:00Z", 1.0, 1.0),
        *measurement("2026-01-02T00:00:00Z", 100.0, 50.0),
        *measurement("2026-01-03T00:00:00Z", 110.0, 50.5),
    )
    lines = compare("--results", tmp_path / "results").stdout.splitlines()
    assert lines == [
        "abacus-2core",
        "  occlusion, Net: captum 50 -> 50.5 windows/s (+1.0%); the spreads overlap",
        "  occlusion, Net: sightline 100 -> 110 windows/s (+10.0%); ratio 2.00 -> 2.18 of captum",
    ]


def test_changes_between_two_tables(tmp_path: Path) -> None:
    old = table(tmp_path, *measurement("2026-01-01T00:00:00Z", 100.0, 50.0), name="old.csv")
    new = table(tmp_path, *measurement("2026-01-02T00:00:00Z", 50.0, 50.0), name="new.csv")
    other = table(tmp_path, *measurement("2026-01-02T00:00:00Z", 50.0, 50.0, case="Other"), name="other.csv")
    assert "sightline 100 -> 50 windows/s (-50.0%); ratio 2.00 -> 1.00 of captum" in compare(old, new).stdout
    assert "nothing was measured twice" in compare(old, other).stdout


@pytest.mark.parametrize("columns", [COLUMNS[:-1], COLUMNS[::-1]], ids=["one-missing", "another-order"])
def test_another_schema_is_refused(tmp_path: Path, columns: list[str]) -> None:
    done = compare(table(tmp_path, columns=columns))
    assert done.returncode == 1
    assert "one schema" in done.stderr
