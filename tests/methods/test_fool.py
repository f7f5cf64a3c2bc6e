"""The way to a boundary that is a plane is straight, and its length is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.methods.gradient.fool import Fool
from sightline.model import Model
from sightline.target import Target, logit, top
from sightline.types import Batch
from straight import Straight

Open = Callable[..., Model]


def fooled(model: Model, images: Batch, method: Fool, target: Target) -> AdversarialExamples:
    found = model.plan(method, threads=2).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_the_change_is_as_long_as_the_way_to_the_plane(open_problem: Open, seed: int) -> None:
    """|score| / |slope|, and a little for rounding: nothing shorter exists."""
    straight = Straight.of()
    pictures = straight.pictures(seed, count=12)
    way = straight.slopes[0] - straight.slopes[2]
    score = straight.logits(pictures)[:, 0] - straight.logits(pictures)[:, 2]
    distance = np.maximum(-score, 0) / np.linalg.norm(way)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Fool(), logit(0) - logit(2))
    assert found.fooled.all()
    assert (found.l2 >= distance).all()
    assert (found.l2 <= 1.05 * distance + 2).all()
    assert found.aim == "raise"
    assert found.classes == (None,) * 12
    np.testing.assert_array_equal(found.values[found.already], pictures[found.already])


@pytest.mark.parametrize("target", [top(1), top(3), logit(1)], ids=repr)
def test_what_counts_as_fooled(open_problem: Open, target: Target) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=6, count=9)
    order = np.argsort(-straight.logits(pictures), axis=1)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Fool(), target)
    after = straight.logits(found.values).argmax(axis=1)
    assert found.fooled.all()
    np.testing.assert_array_equal(found.before, order[:, 0])
    np.testing.assert_array_equal(found.after, after)
    if target == top(1):
        assert (after != order[:, 0]).all()
        assert found.classes == tuple(order[:, 0].tolist())
    else:
        np.testing.assert_array_equal(after, order[:, 2] if target == top(3) else 1)
    np.testing.assert_allclose(found.share, found.l2 / np.linalg.norm(straight.flat(pictures), axis=1), rtol=1e-5)


@pytest.mark.parametrize(("fields", "said"), [({"steps": 0}, "steps=0"), ({"rate": 0.0}, "rate=0.0")])
def test_parameters_out_of_range(open_problem: Open, fields: dict[str, float], said: str) -> None:
    straight = Straight.of()
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    with pytest.raises(UsageError, match=said):
        fooled(model, straight.batch(straight.pictures(1)), Fool(**fields), top(1))  # type: ignore[arg-type]


def test_a_photograph_becomes_another_class_and_stays_the_same_to_the_eye(
    squeezenet_path: Path, photos: Path, tmp_path: Path
) -> None:
    """The file itself, read from disk by another reader, is what fools the network."""
    import onnxruntime
    from PIL import Image

    chosen = str(sorted(photos.iterdir())[440])
    with sightline.load(squeezenet_path, preset="imagenet") as model:
        found = fooled(model, sightline.read([chosen], like=model), Fool(rate=0.2), logit(963))
        preprocess = model.preprocess
    files = dict(found.files({found.photos[0].id: "picture"}))
    path = tmp_path / "picture.png"
    path.write_bytes(files["adversarial/picture.png"])
    pixels = np.asarray(Image.open(path))
    np.testing.assert_array_equal(pixels, found.values[0])
    session = onnxruntime.InferenceSession(squeezenet_path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": preprocess.normalise(pixels)[None]})[0].argmax() == 963
    assert found.share[0] < 0.01
    assert found.similarity(0) > 0.99
