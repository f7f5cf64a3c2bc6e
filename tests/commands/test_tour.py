"""The whole tour on the demo's network, and calls that cannot be answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from commands.calling import Shell
from problems import convolutional
from sightline.demo import LABELS
from sightline.demo.dataset import batch
from sightline.tour.chapter import chapters


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    found = batch(41, range(36))
    for number, (pixels, label) in enumerate(zip(found.images, found.labels, strict=True)):
        (folder / LABELS[label]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / LABELS[label] / f"{number}.png")
    return folder


def test_every_question_is_answered_on_the_demo(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "tour"
    said = shell("tour", "demo", scenes, "-o", out, "--labels-by", "folder", "--threads", "2", "--json")
    assert said.code == 0, said.err
    found = {one["name"]: one for one in said.json["chapters"]}
    assert list(found) == [one.name for one in chapters()]
    for chapter in chapters():
        one = found[chapter.name]
        assert one["answer"], one
        assert set(one["figures"]) == set(chapter.figures)
    figures = {name: one["figures"] for name, one in found.items()}
    assert figures["filters"]["first_inputs"] == 3
    assert figures["neighbours"]["chance"] == pytest.approx(2 / 35)
    assert figures["neighbours"]["feature_purity"] > figures["neighbours"]["pixel_purity"]
    assert figures["saliency"]["backprop_variation"] > figures["saliency"]["occlusion_variation"]
    assert figures["adversarial"]["fooled"] > 0.8
    assert figures["inversion"]["rank_correlation"] < -0.5
    assert figures["gram"]["gram_change"] < 1e-6
    assert figures["gram"]["content_change"] > 0.5
    page = (out / "tour.html").read_text(encoding="utf-8")
    assert page.count("<article") == len(found)
    assert "http://" not in page
    assert json.loads((out / "tour.json").read_text())["images"] == 36


def test_what_cannot_be_answered_says_so_and_the_rest_goes_on(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    one = next(scenes.rglob("*.png"))
    net = convolutional().save(tmp_path)
    plain = ("--mean", "0,0,0", "--std", "1,1,1")
    said = shell(
        "tour", net, one, "-o", tmp_path / "out", "--chapter", "neighbours", "--chapter", "gram", "--json", *plain
    )
    assert said.code == 0, said.err
    found = {part["name"]: part for part in said.json["chapters"]}
    assert "1 photographs are too few" in found["neighbours"]["reason"]
    assert found["neighbours"]["answer"] is None
    assert found["gram"]["answer"]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    partly = shell("tour", net, one, broken, "-o", tmp_path / "partly", "--chapter", "filters", *plain)
    assert partly.code == 4
    assert "Set aside: broken.png" in partly.err
    again = shell("tour", net, one, "-o", tmp_path, *plain)
    assert again.code == 3
    assert "holds no tour" in again.err
    assert "Did you mean 'gram'" in shell("tour", net, one, "-o", tmp_path / "x", "--chapter", "gramm", *plain).err
    assert "Name the images" in shell("tour", net, "-o", tmp_path / "x", *plain).err
