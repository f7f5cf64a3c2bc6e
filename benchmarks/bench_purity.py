"""How often neighbours in pixel space and in feature space show the same thing; nothing is timed."""

from __future__ import annotations

import bisect
import json
from pathlib import Path

import pytest
from networks import MODELS
from recording import Session, append

from sightline.cli import call
from sightline.demo.dataset import write

K, SCENES = 8, 1200
# What ImageNet's first class of each range is; a range ends where the next begins.
KINDS = (
    (0, "fish"), (7, "bird"), (25, "amphibian"), (33, "reptile"), (69, "invertebrate"), (80, "bird"), (101, "mammal"),
    (107, "invertebrate"), (127, "bird"), (147, "mammal"), (151, "dog"), (269, "mammal"), (281, "cat"),
    (294, "mammal"), (300, "invertebrate"), (330, "mammal"), (389, "fish"), (398, "thing"), (924, "food"),
    (970, "landscape"), (981, "person"), (984, "plant"),
)  # fmt: skip


def kind(index: int) -> str:
    """Of a class of ImageNet.

    >>> kind(0), kind(24), kind(207), kind(398), kind(999)
    ('fish', 'bird', 'dog', 'thing', 'thing')
    """
    return "thing" if index == 999 else KINDS[bisect.bisect([first for first, _ in KINDS], index) - 1][1]


def test_demo(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path / "scenes", 11, SCENES)  # NUMBER_LABEL.png
    labels = {Path(path).name: Path(path).stem.partition("_")[2] for path in files}
    measure(
        session, f"demo, {SCENES} scenes, {len(set(labels.values()))} shapes", "demo", tmp_path / "scenes" / "*.png",
        labels, ("stage1.relu", "stage3.relu"), [], tmp_path, capsys,
    )  # fmt: skip


def test_photographs(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = MODELS / "squeezenet1_0.onnx", MODELS.parent / "images"
    if not (path.is_file() and folder.is_dir()):
        pytest.skip("the trained network or the photographs are not beside the checkout")
    labels = {one.name: kind(int(one.name.partition("_")[0])) for one in folder.iterdir()}
    case = f"SqueezeNet 1.0, {len(labels)} photographs, {len(set(labels.values()))} kinds"
    layers = ("features.3", "features.12", "classifier.2")
    measure(session, case, str(path), folder, labels, layers, ["--preset", "imagenet"], tmp_path, capsys)


def measure(
    session: Session, case: str, model: str, images: Path, labels: dict[str, str], layers: tuple[str, ...],
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    table, bank = tmp_path / "labels.csv", tmp_path / "bank"
    table.write_text("id,label\n" + "".join(f"{name},{label}\n" for name, label in labels.items()))
    asked = ["index", model, str(images), "--layer", ",".join(layers), "--space", "both", "-o", str(bank), *options]
    assert call(asked) == 0
    capsys.readouterr()
    assert call(["search", str(bank), "--labels-by", str(table), "-k", str(K), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["label_agreement"]
    figures = {"(chance)": found[0]["chance"], **{one["space"]: one["purity"] for one in found}}
    append(session.path, [
        session.row(
            benchmark="purity", case=case, subject=name, metric=f"neighbours of {K} alike", unit="share", value=value,
            low=value, high=value, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None, others=None,
        )
        for name, value in figures.items()
    ])  # fmt: skip
    with capsys.disabled():
        for name, value in figures.items():
            print(f"{case}: {name} {value:.1%}")
