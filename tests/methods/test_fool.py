"""The way to a boundary that is a plane is straight, and its length is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.image import read_image
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


def test_a_photograph_becomes_any_class_and_stays_the_same_to_the_eye(
    squeezenet_path: Path, photos: Path, tmp_path: Path
) -> None:
    """The files themselves, read from disk by another reader, are what fools the network."""
    import onnxruntime
    from PIL import Image

    chosen = sorted(photos.iterdir())[40:600:400]
    with sightline.load(squeezenet_path, preset="imagenet") as model:
        found = fooled(model, sightline.read([str(path) for path in chosen], like=model), Fool(), logit((963, 5)))
        preprocess = model.preprocess
    names = {photo.id: f"picture {row}" for row, photo in enumerate(found.photos)}
    session = onnxruntime.InferenceSession(squeezenet_path, providers=["CPUExecutionProvider"])
    for (name, content), expected, picture in zip(found.files(names), (963, 5), found.values, strict=True):
        path = tmp_path / Path(name).name
        path.write_bytes(content)
        assert name.startswith("adversarial/picture ")
        pixels = np.asarray(Image.open(path))
        np.testing.assert_array_equal(np.asarray(read_image(path)), picture)
        logits = session.run(None, {"input": preprocess.normalise(pixels)[None]})[0]
        assert logits.argmax() == expected
    assert (found.share < 0.01).all()
    assert all(found.similarity(row) > 0.99 for row in range(2))
