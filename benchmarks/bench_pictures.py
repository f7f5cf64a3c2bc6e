"""Pictures made by ascent on the real SqueezeNet, judged on ONNX Runtime; nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest
from networks import MODELS
from recording import Row, Session, append

import sightline
from sightline.ascent.class_pictures import ClassPictures
from sightline.ascent.inversions import Inversions
from sightline.methods.gradient.class_visualisation import ClassVisualisation
from sightline.methods.gradient.inversion import Inversion
from sightline.target import logit

CLASSES = (1, 76, 130, 291, 340, 388, 417, 609, 805, 954)
PHOTOGRAPH = 100  # which of the folder is inverted


def test_pictures(session: Session, pytestconfig: pytest.Config) -> None:
    path, folder = MODELS / "squeezenet1_0.onnx", MODELS.parent / "images"
    if not (path.is_file() and folder.is_dir()):
        pytest.skip("the trained network or the photographs are not beside the checkout")
    threads = pytestconfig.option.threads
    with sightline.load(path, preset="imagenet") as model:
        made = model.plan(ClassVisualisation(seeds=1), threads=threads).run(target=logit(CLASSES))
        photo = sightline.read([str(sorted(folder.iterdir())[PHOTOGRAPH])], like=model)
        inverted = model.plan(Inversion(space="fourier"), threads=threads).run(photo)
    assert isinstance(made, ClassPictures)
    assert isinstance(inverted, Inversions)
    figures = {
        "probability of the class, least of 10": float(made.probabilities.min()),
        "mean over shifts of up to 8 pixels, least of 10": float(made.shifted_probabilities.min()),
        "rank correlation of depth and similarity": float(np.array(inverted.columns()["depth_correlation"])[0]),
    }
    for layer, alike in zip(inverted.layers, inverted.similarities[0], strict=True):
        figures[f"similarity of the picture from {layer}"] = float(alike)
    append(session.path, [_row(session, name, value) for name, value in figures.items()])
    for name, value in figures.items():
        print(f"{name:60} {value:.3f}")


def _row(session: Session, metric: str, value: float) -> Row:
    return session.row(
        benchmark="pictures", case="SqueezeNet 1.0", subject="sightline", metric=metric, unit="", value=value,
        low=value, high=value, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None, others=None,
    )  # fmt: skip
