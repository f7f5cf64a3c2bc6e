"""Attacks from the command line: the files they leave, and what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.calling import Shell
from commands.conftest import PLAIN
from problems import convolutional
from sightline.adversarial.robustness import wilson


def scores(folder: Path) -> np.ndarray:
    """(B, K) of pictures of the model's size."""
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return convolutional().logits((np.stack(pictures).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("method", ["fool", "square_attack"])
def test_pictures_and_sheets_are_written_and_fool(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "out"
    flags = ["--epsilon", "60"] if method == "square_attack" else []
    said = shell("run", method, net, noise_folder, "-o", out, *PLAIN, "--target", "2", "--json", *flags)
    assert said.code == 0
    reached = scores(out / "adversarial").argmax(axis=1) == 2
    rows = said.json["rows"]
    assert [row["fooled"] for row in rows] == reached.tolist()
    assert reached.any()
    assert sorted(path.name for path in (out / "sheets").iterdir()) == [f"{n}.png" for n in range(5)]
    for row in rows:
        assert (f"{row['id']}: it fools the network as it is" in said.err) == (row["outcome"] == "already")
        assert row["target_class"] == 2


def test_a_curve_is_of_all_images_however_they_were_batched(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sizes = ["--epsilons", "2", "--epsilons", "30"]
    said = shell(
        "run", "black_box_curve", net, noise_folder, "-o", out, *PLAIN, *sizes, "--batch", "2",
        "--overlays", "--report", "--report-images", "1", "--json",
    )  # fmt: skip
    assert said.code == 0
    withstand = np.array([row["withstands"] for row in said.json["rows"]])
    assert withstand.shape == (5, 3)
    facts = said.json["summary"]
    assert facts["images"] == 5
    for place, size in enumerate(("0", "2", "30")):
        count = int(withstand[:, place].sum())
        np.testing.assert_allclose(facts[f"withstand {size}"], [count / 5, *wilson(count, 5)], atol=1e-4)
    assert [path.name for path in (out / "overlays").iterdir()] == ["Robustness.png"]
    assert "Share of 5 images" in (out / "report.html").read_text()
