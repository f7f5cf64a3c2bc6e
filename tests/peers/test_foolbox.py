"""Agreement with Foolbox's attacks on a real network and real photographs.

Foolbox knows no rounding and takes every step; the targets are out of reach, so that ours takes every step too, and
its last picture is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import THREADS
from sightline.adversarial.examples import AdversarialExamples
from sightline.methods.gradient.fgsm import Fgsm
from sightline.methods.gradient.pgd import Pgd
from sightline.model import Model, load
from sightline.reading import read
from sightline.registry import Method
from sightline.target import Target, logit, top
from sightline.types import Batch

foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed: pip install 'sightline[peers]'")
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'sightline[torch]'")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """The peer on as many threads as we are."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(squeezenet_path: Path) -> Iterator[Model]:
    with load(squeezenet_path, preset="imagenet") as opened:
        yield opened


@pytest.fixture(scope="module")
def peer(squeezenet_path: Path, model: Model) -> Any:
    """The same weights, taking pixels of 0 to 1."""
    network = torchvision.models.squeezenet1_0(weights=None)
    network.load_state_dict(safetensors_torch.load_file(squeezenet_path.with_suffix(".safetensors")))
    shift = {"mean": model.preprocess.mean, "std": model.preprocess.std, "axis": -3}
    network = network.eval().requires_grad_(False)
    return foolbox.PyTorchModel(network, bounds=(0, 1), preprocessing=shift, device="cpu")


@pytest.fixture(scope="module")
def images(model: Model, photos: Path) -> Batch:
    files = sorted(photos.glob("*.jpg"))
    return read([files[row] for row in np.random.default_rng(8).choice(len(files), 2, replace=False)], like=model)


def ours(model: Model, images: Batch, method: Method, target: Target) -> AdversarialExamples:
    found = model.plan(method, threads=THREADS).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


def theirs(peer: Any, found: AdversarialExamples, attack: Any, criterion: Any, epsilon: float) -> NDArray[Any]:
    """(B, H, W, 3) pixel values, not rounded."""
    planes = torch.from_numpy(np.moveaxis(found.originals, -1, 1).astype(np.float32) / 255)
    pictures = attack.run(peer, planes, criterion, epsilon=epsilon / 255)
    return np.moveaxis(255 * pictures.numpy(), 1, -1)


def assert_within_one(found: AdversarialExamples, expected: NDArray[Any]) -> None:
    """Nearly all pixels are the rounded ones; where a slope is as small as its error, signs may differ."""
    distance = np.abs(found.values - expected)
    assert (distance <= 0.5 + 1e-3).mean() > 0.999
    assert np.quantile(distance, 0.999) <= 1
    assert np.abs(expected - found.originals).max() > 0.99, "something was changed"


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
def test_fgsm(model: Model, peer: Any, images: Batch, epsilon: float) -> None:
    found = ours(model, images, Fgsm(epsilon=epsilon), top(1))
    attack = foolbox.attacks.LinfFastGradientAttack()
    criterion = foolbox.criteria.Misclassification(torch.from_numpy(found.before))
    assert_within_one(found, theirs(peer, found, attack, criterion, epsilon))


@pytest.mark.parametrize(("epsilon", "steps", "rate"), [(2.0, 3, 0.75), (1.0, 2, 0.75)])
def test_pgd(model: Model, peer: Any, images: Batch, epsilon: float, steps: int, rate: float) -> None:
    target = worst(model, images)
    found = ours(model, images, Pgd(epsilon=epsilon, steps=steps, rate=rate, random_start=False), logit(target))
    assert not found.fooled.any(), "the class was out of reach, so that ours took every step"
    attack = foolbox.attacks.LinfPGD(abs_stepsize=rate / 255, steps=steps, random_start=False)
    criterion = foolbox.criteria.TargetedMisclassification(torch.tensor(target))
    assert_within_one(found, theirs(peer, found, attack, criterion, epsilon))


def worst(model: Model, images: Batch) -> tuple[int, ...]:
    """The class that each image has last."""
    from sightline.methods.forward.predict import Predict

    values = model.plan(Predict(), threads=THREADS).run(images).values
    return tuple(int(index) for index in values.argmin(axis=1))
