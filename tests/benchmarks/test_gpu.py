"""The benchmark of a GPU, rehearsed on the CPU: every part ends, what fails is told, rows keep to the schema."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PARTS = (
    "rate", "small", "knn", "gram", "occlusion", "forward", "styles", "tensorrt", "gradients", "ascent", "scanline"
)  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))

    def by_name(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield by_name
    for name in [
        name for name in sys.modules if name.startswith("on_gpu") or name in ("gpu", "recording", "machine")
    ]:
        del sys.modules[name]


@pytest.mark.parametrize("parts", [PARTS[:4], PARTS[4:8], PARTS[8:]], ids=lambda parts: "-".join(parts))
def test_every_line_runs_on_a_cpu(parts: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    command = [sys.executable, FOLDER / "gpu.py", "--dry-run", "--rounds", "1", "--parts", ",".join(parts)]
    done = subprocess.run([*command, "--results", tmp_path], capture_output=True, text=True)
    if "no C++ compiler" in done.stdout:
        pytest.skip("no C++ compiler is installed")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in parts:
        assert f"{name}: " in done.stdout
    assert "FAIL" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_all_parts_are_known(load: Any) -> None:
    assert tuple(load("gpu").PARTS) == PARTS
    assert load("gpu").main(["--parts", "nothing"]) == 2


def test_time_that_a_part_leaves_goes_to_those_after_it(load: Any) -> None:
    gpu = load("gpu")
    left = gpu.TOTAL
    for name in PARTS:
        given = gpu.allowance(name, PARTS, left)
        assert given >= gpu.ATTEMPT  # even where every part takes all of its own
        left -= given
    assert abs(left) < 1e-6
    assert gpu.allowance("scanline", PARTS, 300.0) == 300.0
    assert gpu.TOTAL + 10 < 480  # the last part is stopped ten seconds after its time


def test_what_fails_is_told_and_the_rest_goes_on(load: Any, tmp_path: Path) -> None:
    setting = load("on_gpu.setting").Setting(True, tmp_path, tmp_path / "lines", 60.0, 3)

    def broken() -> None:
        raise RuntimeError("an illegal memory access\nwas encountered")

    assert not setting.check("first", broken)
    assert setting.check("second", lambda: "near")
    setting.attempt("third", broken)
    ratio = setting.race(
        lambda: sum(range(100)), {"slow": lambda: sum(range(20_000)), "broken": broken}, case="sums", unit="sums/s",
        work=1, wait=lambda: None,
    )  # fmt: skip
    assert ratio is not None
    assert setting.race(broken, {"fine": lambda: None}, case="ours", unit="", work=1, wait=lambda: None) is None
    found = [json.loads(line) for line in setting.lines.read_text().splitlines()]
    assert [(line["kind"], line.get("passed")) for line in found] == [
        ("check", False), ("check", True), ("failed", None), ("failed", None), ("race", None), ("failed", None)
    ]  # fmt: skip
    assert found[0]["note"] == "RuntimeError: an illegal memory access was encountered"
    assert set(found[4]["seconds"]) == {"slow", "sightline"}


def test_a_part_that_hangs_is_stopped_and_what_it_found_is_kept(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = load("gpu")
    script = tmp_path / "hangs.py"
    script.write_text(
        "import sys, time\n"
        "path = sys.argv[sys.argv.index('--lines') + 1]\n"
        'open(path, \'a\').write(\'{"kind": "check", "name": "one", "passed": true, "note": ""}\\n{"half\')\n'
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    found = gpu.in_process(gpu.parsed(["--dry-run"]), "knn", tmp_path, -9.0)
    assert found.ended == "stopped after 1 s"
    assert [line["name"] for line in found.lines] == ["one"]
    script.write_text("raise SystemExit('the device is lost')")
    found = gpu.in_process(gpu.parsed(["--dry-run"]), "gram", tmp_path, 10.0)
    assert found.ended == "ended with 1: the device is lost"
    assert gpu.summary({"gram": found}, 1.0) == 1


def test_rows_carry_device_driver_and_versions(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = load("on_gpu.rows")
    monkeypatch.setattr(rows, "device_and_driver", lambda: ("nvidia-h100-80gb-hbm3", "580.159.04"))
    monkeypatch.setattr(rows, "cuda_versions", lambda: {"cupy-cuda13x": "14.2.0"})
    lines = [
        {"kind": "check", "name": "", "passed": True, "note": ""},
        {"kind": "race", "case": "gram", "unit": "matrices/s", "seconds": {
            "torch, fp32": [4.0, 4.0, 2.0], "torch, TF32": [6.0, 6.0, 6.0], "sightline": [1.0, 2.0, 2.0]}},
        {"kind": "race", "case": "product", "unit": "TFLOP/s", "seconds": {"sightline": [0.5]}},
        {"kind": "figure", "case": "all", "subject": "sightline", "metric": "mean", "unit": "ratio", "value": 1.5},
    ]  # fmt: skip
    rows.rows_of(lines, "gram", "benchmarks/gpu.py --parts gram", tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == "nvidia-h100-80gb-hbm3.csv"
    found = load("recording").read(path)
    ours = next(row for row in found if row.case == "gram" and row.subject == "sightline")
    assert (ours.processor, ours.value, ours.ratio_to, ours.ratio) == ("gpu", 0.5, "torch, fp32", 2.0)
    assert ours.command == "benchmarks/gpu.py --parts gram (driver 580.159.04, cupy-cuda13x 14.2.0)"
    assert [row.is_claim for row in found] == [False, False, True, False, False]


def test_the_table_says_device_and_date_and_what_was_not_measured(load: Any, tmp_path: Path) -> None:
    rows = load("on_gpu.rows")
    made = rows.rows_of(
        [{"kind": "race", "case": "gram", "unit": "matrices/s", "seconds": {"torch": [2.0], "sightline": [1.0]}}],
        "gram", "benchmarks/gpu.py", tmp_path,
    )  # fmt: skip
    table = load("compare").table(made)
    assert f"| benchmark | case | CPU | {made[0].device} |" in table
    assert "| gpu gram | gram | not measured | **2.0×**" in table
    assert f"{made[0].device}: " in table
    assert made[0].date[:10] in table
    sys.modules.pop("compare")
