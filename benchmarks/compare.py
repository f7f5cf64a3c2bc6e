"""What changed between two measurements, and the README's table.

python benchmarks/compare.py                        each device's last two measurements of each case
python benchmarks/compare.py OLD.csv NEW.csv        the last measurement of each case in both tables
python benchmarks/compare.py --readme README.md     rewrite the table between the markers
python benchmarks/compare.py --readme README.md --check     fail if it is not what the tables say
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from recording import OURS, Row, read

RESULTS = Path(__file__).parent / "results"
NOT_MEASURED = "not measured"
FORGOTTEN = timedelta(days=30)  # a case that its benchmark no longer measures leaves the README

Key = tuple[str, str, str]  # benchmark, case, subject


def main() -> int:
    """Run the command line; 1 if a check failed, 2 if it was called wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, help="none, one or two CSV tables")
    parser.add_argument("--readme", type=Path, help="rewrite the table in this file")
    parser.add_argument("--check", action="store_true", help="rewrite nothing; fail if it would change")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables (benchmarks/results)")
    given = parser.parse_args()
    if len(given.tables) > 2 or (given.check and given.readme is None) or (given.readme and given.tables):
        parser.error(
            "give at most two tables, and --check only with --readme FILE, which takes its tables from --results"
        )
    if given.readme is not None:
        return update(given.readme, tables(given.results), check=given.check)
    if len(given.tables) == 2:
        old, new = (latest(read(path)) for path in given.tables)
        print("\n".join(changes(old, new)))
        return 0
    for path in given.tables or sorted(given.results.glob("*.csv")):
        rows = read(path)
        print(f"{path.stem}\n" + "\n".join(changes(previous(rows), latest(rows))))
    return 0


def tables(folder: Path) -> list[Row]:
    """The rows of every device."""
    return [row for path in sorted(folder.glob("*.csv")) for row in read(path)]


def latest(rows: Iterable[Row]) -> dict[Key, Row]:
    """The last measurement of each subject of each case."""
    return {(row.benchmark, row.case, row.subject): row for row in rows}


def previous(rows: Sequence[Row]) -> dict[Key, Row]:
    """The last but one, where there is one."""
    newest = latest(rows)
    return latest(row for row in rows if row is not newest[row.benchmark, row.case, row.subject])


def changes(old: Mapping[Key, Row], new: Mapping[Key, Row]) -> list[str]:
    """One line for each subject measured in both, or why there is none."""
    lines = [_change(old[key], row) for key, row in sorted(new.items()) if key in old]
    return lines or ["  nothing was measured twice"]


def _change(old: Row, new: Row) -> str:
    figures = f"{old.value:.4g} -> {new.value:.4g} {new.unit} ({new.value / old.value - 1:+.1%})"
    ratio = ""
    if old.ratio is not None and new.ratio is not None:
        ratio = f"; ratio {old.ratio:.2f} -> {new.ratio:.2f} of {new.ratio_to}"
    apart = new.low > old.high or new.high < old.low
    verdict = "" if apart else "; the spreads overlap"
    return f"  {new.benchmark}, {new.case}: {new.subject} {figures}{ratio}{verdict}"


def update(readme: Path, rows: Sequence[Row], *, check: bool) -> int:
    """Put each table between its markers, or say that one is stale."""
    text = readme.read_text(encoding="utf-8")
    renewed = text
    for name, make in {"benchmarks": table, "truth": truth_table, "purity": purity_table}.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, found, rest = renewed.partition(begin)
        _, ended, tail = rest.partition(end)
        if not found or not ended:
            print(f"{readme} lacks {begin} or, after it, {end}: put both where the table belongs.", file=sys.stderr)
            return 2
        renewed = f"{head}{begin}\n{make(rows)}\n{end}{tail}"
    if check and renewed != text:
        print(f"{readme} is stale: run python benchmarks/compare.py --readme {readme}", file=sys.stderr)
        return 1
    if not check:
        readme.write_text(renewed, encoding="utf-8")
    return 0


def truth_table(rows: Sequence[Row]) -> str:
    """Markdown: one line for each method, best first, and the controls among them."""
    current = [row for row in _current(rows) if row.benchmark == "truth"]
    if not current:
        return f"Everything is {NOT_MEASURED} yet: `make bench`."
    device = max(current, key=lambda row: row.date).device
    metrics = list(dict.fromkeys(row.metric for row in current))
    found: dict[str, dict[str, float]] = {}
    for row in current:
        if row.device == device:
            found.setdefault(row.subject, {})[row.metric] = row.value
    lines = [f"| method | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
    for name, values in sorted(found.items(), key=lambda entry: -entry[1][metrics[-1]]):
        lines.append(f"| {name} | {' | '.join(f'{values[metric]:.0%}' for metric in metrics)} |")
    return "\n".join(lines)


def purity_table(rows: Sequence[Row]) -> str:
    """Markdown: one line for each set of images and space, best first, chance among them."""
    current = [row for row in _current(rows) if row.benchmark == "purity"]
    if not current:
        return f"Everything is {NOT_MEASURED} yet: `make bench`."
    lines = [f"| images | space | {current[0].metric} |", "|---|---|---|"]
    ordered = sorted(current, key=lambda row: (row.case, -row.value))
    return "\n".join([*lines, *(f"| {row.case} | {row.subject} | {row.value:.0%} |" for row in ordered)])


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line for each case, one column for each device; a device without a row says so."""
    claims = [row for row in _current(rows) if row.is_claim]
    if not claims:
        return f"Everything is {NOT_MEASURED} yet: `make bench`."
    cpus, gpus = (sorted({row.device for row in claims if row.processor == kind}) for kind in ("cpu", "gpu"))
    columns = [*(cpus or ["CPU"]), *(gpus or ["GPU"])]
    lines = [
        f"| benchmark | case | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    everything = latest_of_devices(rows)
    for benchmark, case in sorted({(row.benchmark, row.case) for row in claims}):
        found = {row.device: row for row in claims if (row.benchmark, row.case) == (benchmark, case)}
        cells = [_cell(found[name], everything) if name in found else NOT_MEASURED for name in columns]
        lines.append(f"| {benchmark} | {case} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(_footnote(claims, name) for name in cpus + gpus)])


def latest_of_devices(rows: Iterable[Row]) -> dict[tuple[str, Key], Row]:
    """The last measurement of each subject of each case on each device."""
    return {(row.device, (row.benchmark, row.case, row.subject)): row for row in rows}


def _current(rows: Sequence[Row]) -> list[Row]:
    """Each subject's last figures on each device, unless its benchmark went on for a month without it."""
    last = {(row.device, row.benchmark): _day(row) for row in rows}
    newest = {(row.device, row.benchmark, row.case, row.subject, row.metric): row for row in rows}
    return [row for row in newest.values() if last[row.device, row.benchmark] - _day(row) < FORGOTTEN]


def _day(row: Row) -> date:
    return date.fromisoformat(row.date[:10])


def _cell(row: Row, everything: Mapping[tuple[str, Key], Row]) -> str:
    peer = everything[row.device, (row.benchmark, row.case, row.ratio_to)]
    return (
        f"**{row.ratio:.1f}×** ({row.ratio_low:.1f}–{row.ratio_high:.1f}): "
        f"{_rounded(row.value)} against {_rounded(peer.value)} {row.unit} of {row.ratio_to}"
    )


def _rounded(value: float) -> str:
    """Three digits, no exponents."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _footnote(claims: Sequence[Row], device: str) -> str:
    row = max((row for row in claims if row.device == device), key=lambda row: row.date)
    rounds = sorted({row.rounds for row in claims if row.device == device})
    versions = ", ".join(
        f"{name} {version}"
        for name, version in (
            (OURS, row.sightline), ("ONNX Runtime", row.onnxruntime), ("torch", row.torch), ("Captum", row.captum)
        )
        if version
    )  # fmt: skip
    return (
        f"{device}: {row.threads} threads on {row.cores} cores, {row.date[:10]}; median of {_span(rounds)} rounds "
        f"(quartiles); {versions}."
    )


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


if __name__ == "__main__":
    sys.exit(main())
