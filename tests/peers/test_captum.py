"""Agreement with Captum on a real network and real photographs.

Captum hooks modules, so its copy of the network gets a ReLU of its own wherever one is used, none of them in place.
Its copy computes channels last, as the twin does on the CPU: in another arrangement sums are rounded in another
order, a ReLU whose input is 0 up to rounding chooses the other side, and either is as far from double precision (up
to 1 % of the largest gradient) as the two are from each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import THREADS
from sightline.methods.forward.occlusion import Occlusion
from sightline.methods.gradient.deconvnet import Deconvnet
from sightline.methods.gradient.grad_cam import GradCam
from sightline.methods.gradient.guided_backprop import GuidedBackprop
from sightline.methods.gradient.guided_grad_cam import GuidedGradCam
from sightline.methods.gradient.input_x_gradient import InputXGradient
from sightline.methods.gradient.integrated_gradients import IntegratedGradients
from sightline.methods.gradient.lrp import Lrp
from sightline.methods.gradient.saliency import Saliency
from sightline.methods.gradient.smooth_grad import SmoothGrad
from sightline.model import Model, load
from sightline.reading import read
from sightline.target import logit, probability, top
from sightline.types import Batch

captum_attr = pytest.importorskip("captum.attr", reason="captum is not installed: pip install 'sightline[peers]'")
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'sightline[torch]'")
torchvision = pytest.importorskip(
    "torchvision", reason="torchvision is not installed: pip install 'sightline[torch]'"
)
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

Draw = Callable[[int, int], Batch]

TOLERANCE = 1e-4  # max |ours - theirs| / max |theirs|
PEERS: dict[Any, tuple[str, dict[str, Any]]] = {
    Saliency: ("Saliency", {"abs": False}),
    GuidedBackprop: ("GuidedBackprop", {}),
    Deconvnet: ("Deconvolution", {}),
}
REDUCTIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "max_abs": lambda gradient: np.abs(gradient).max(1),
    "mean_abs": lambda gradient: np.abs(gradient).sum(1) / gradient.shape[1],
    "l2": lambda gradient: np.linalg.norm(gradient.astype(np.float64), axis=1),
    "sum": lambda gradient: gradient.astype(np.float64).sum(1),
}


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """The peer on as many threads as we are: torch adds in another order on another number, and ReLUs flip."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(squeezenet_path: Path) -> Iterator[Model]:
    with load(squeezenet_path, preset="imagenet") as opened:
        yield opened


@pytest.fixture(scope="module")
def module(squeezenet_path: Path) -> Any:
    """The same weights in torchvision's SqueezeNet, in evaluation mode."""
    weights = squeezenet_path.with_suffix(".safetensors")
    if not weights.is_file():
        pytest.skip(f"{weights} is not on this machine; it is not part of the repository")
    network = torchvision.models.squeezenet1_0(weights=None)
    network.load_state_dict(safetensors_torch.load_file(weights))
    for part in network.modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def draw(model: Model, photos: Path) -> Draw:
    """Reads so many photographs, chosen at random from a seed."""
    files = sorted(photos.glob("*.jpg"))

    def chosen(count: int, seed: int) -> Batch:
        rows = np.random.default_rng(seed).choice(len(files), count, replace=False)
        return read([files[row] for row in rows], like=model)

    return chosen


@pytest.fixture(scope="module", params=[(3, 21)], ids=["3-photos-seed21"])
def images(draw: Draw, request: pytest.FixtureRequest) -> Batch:
    return draw(*request.param)


@pytest.fixture(scope="module", params=PEERS, ids=[method.__name__ for method in PEERS])
def pair(module: Any, images: Batch, request: pytest.FixtureRequest) -> tuple[Any, NDArray[Any]]:
    """One of our methods, and Captum's gradient (B, C, H, W) for it."""
    name, options = PEERS[request.param]
    peer = getattr(captum_attr, name)(module)
    return request.param, gradient(peer, images, target=highest(module, images), **options)


def gradient(peer: Any, images: Batch, **options: Any) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations", UserWarning)
        values = peer.attribute(tensor(images).requires_grad_(), **options)
    return values.detach().numpy()


def tensor(images: Batch) -> Any:
    """(B, C, H, W), channels last in memory."""
    return torch.from_numpy(images.tensor).contiguous(memory_format=torch.channels_last)


def highest(module: Any, images: Batch) -> Any:
    """(B,) class that Captum's copy of the network ranks first."""
    with torch.no_grad():
        return module(tensor(images)).argmax(1)


def relative_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("window", "stride", "fill", "count", "seed"),
    [
        pytest.param(32, 16, 0.0, 2, 11, id="32-by-16-of-2-photos-seed11"),
        pytest.param(30, 20, 1.5, 1, 12, id="30-by-20-cut-at-the-border-seed12"),
        pytest.param(64, 48, -0.7, 3, 13, id="64-by-48-cut-at-the-border-of-3-photos-seed13"),
    ],
)
def test_occlusion(
    model: Model, module: Any, draw: Draw, window: int, stride: int, fill: float, count: int, seed: int
) -> None:
    images = draw(count, seed)
    ours = model.explain(images, Occlusion(window=window, stride=stride, fill=fill), top(1), threads=THREADS)
    with torch.no_grad():
        theirs = captum_attr.Occlusion(module).attribute(
            torch.from_numpy(images.tensor),
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=fill,
            target=highest(module, images),
            perturbations_per_eval=4,
        )  # (B, 3, H, W), the same in every channel
    assert relative_difference(ours.values, theirs.numpy()[:, 0]) <= TOLERANCE


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_gradients(model: Model, images: Batch, pair: tuple[Any, NDArray[Any]], reduce: Any) -> None:
    method, theirs = pair
    ours = model.explain(images, method(reduce=reduce), top(1), threads=THREADS)
    assert relative_difference(ours.values, REDUCTIONS[reduce](theirs)) <= TOLERANCE


def test_saliency_of_a_probability(model: Model, module: Any, images: Batch) -> None:
    ours = model.explain(images, Saliency(reduce="sum"), probability(281), threads=THREADS)
    chances = torch.nn.Sequential(module, torch.nn.Softmax(dim=1))
    theirs = gradient(captum_attr.Saliency(chances), images, target=281, abs=False)
    assert relative_difference(ours.values, REDUCTIONS["sum"](theirs)) <= TOLERANCE


def test_guided_backprop_of_a_difference_of_classes(model: Model, module: Any, images: Batch) -> None:
    ours = model.explain(images, GuidedBackprop(reduce="sum"), logit(281) - logit(285), threads=THREADS)

    class Difference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, inputs: Any) -> Any:
            logits = self.network(inputs)
            return logits[:, 281] - logits[:, 285]

    theirs = gradient(captum_attr.GuidedBackprop(Difference()), images)
    assert relative_difference(ours.values, REDUCTIONS["sum"](theirs)) <= TOLERANCE


def test_input_times_gradient(model: Model, module: Any, images: Batch) -> None:
    ours = model.explain(images, InputXGradient(reduce="sum"), top(1), threads=THREADS)
    theirs = gradient(captum_attr.InputXGradient(module), images, target=highest(module, images))
    assert relative_difference(ours.values, REDUCTIONS["sum"](theirs)) <= TOLERANCE


@pytest.mark.parametrize(("baseline", "steps"), [(0.0, 8), (0.7, 5)])
def test_integrated_gradients(model: Model, module: Any, images: Batch, baseline: float, steps: int) -> None:
    ours: Any = model.explain(
        images, IntegratedGradients(baseline=str(baseline), steps=steps), top(1), threads=THREADS
    )
    theirs, gaps = captum_attr.IntegratedGradients(module).attribute(
        tensor(images), baselines=baseline, target=highest(module, images), n_steps=steps,
        method="gausslegendre", return_convergence_delta=True,
    )  # fmt: skip
    assert relative_difference(ours.values, REDUCTIONS["sum"](theirs.detach().numpy())) <= TOLERANCE
    np.testing.assert_allclose(ours.gaps, gaps, rtol=1e-2, atol=1e-3)


def test_smooth_grad_statistically(model: Model, module: Any, draw: Draw) -> None:
    """Other noise, the same mean: as close to Captum's as one half of our samples is to the other."""
    images, samples = draw(1, 5), 16
    deviation = 0.15 * float(np.ptp(images.tensor))
    torch.manual_seed(0)
    theirs = gradient(
        captum_attr.NoiseTunnel(captum_attr.Saliency(module)), images, nt_type="smoothgrad_sq", nt_samples=samples,
        stdevs=deviation, target=highest(module, images), abs=False,
    )[0]  # fmt: skip
    first, second = (
        model.explain(
            images, SmoothGrad(base="saliency(reduce='sum')", samples=samples, statistic="square", seed=seed), top(1),
            threads=THREADS,
        ).values[0].ravel()
        for seed in (1, 2)
    )  # fmt: skip
    other = REDUCTIONS["sum"](theirs[None])[0].ravel()
    among_ours = np.corrcoef(np.sqrt(first), np.sqrt(second))[0, 1]
    assert among_ours > 0.5
    assert abs(np.corrcoef(np.sqrt(first), np.sqrt(other))[0, 1] - among_ours) < 0.05
    assert abs(first.mean() / other.mean() - 1) < 0.1


def test_grad_cam(model: Model, module: Any, images: Batch) -> None:
    ours: Any = model.explain(images, GradCam(), top(1), threads=THREADS)
    peer = captum_attr.LayerGradCam(module, module.features[12])
    theirs = gradient(peer, images, target=highest(module, images), relu_attributions=True)
    stretched = captum_attr.LayerAttribution.interpolate(
        torch.from_numpy(theirs), images.tensor.shape[2:], interpolate_mode="bilinear"
    ).numpy()[:, 0]
    assert ours.layer == "features.12"
    assert relative_difference(ours.values, stretched) <= TOLERANCE


def test_guided_grad_cam(model: Model, module: Any, images: Batch) -> None:
    ours = model.explain(images, GuidedGradCam(reduce="sum"), top(1), threads=THREADS)
    peer = captum_attr.GuidedGradCam(module, module.features[12])
    theirs = gradient(peer, images, target=highest(module, images), interpolate_mode="bilinear")
    assert relative_difference(ours.values, REDUCTIONS["sum"](theirs)) <= TOLERANCE


def test_relevance_by_epsilon(model: Model, module: Any, images: Batch) -> None:
    """Captum applies the rule to poolings too, where ours hands relevance on; at this epsilon that is one."""
    from captum.attr._utils.lrp_rules import EpsilonRule

    rules = (torch.nn.Conv2d, torch.nn.MaxPool2d, torch.nn.AdaptiveAvgPool2d)
    for part in module.modules():
        if isinstance(part, rules):
            part.rule = EpsilonRule(epsilon=1e-6)
    ours = model.explain(images, Lrp(composite="epsilon", epsilon=1e-6), top(1), threads=THREADS)
    theirs = gradient(captum_attr.LRP(module), images, target=highest(module, images))
    assert relative_difference(ours.values, REDUCTIONS["sum"](theirs)) <= TOLERANCE


def test_maps_of_two_photographs_are_far_apart(model: Model, images: Batch) -> None:
    """So that agreement within the tolerance says something."""
    maps = model.explain(images, Saliency(), top(1), threads=THREADS).values
    assert relative_difference(maps[0], maps[1]) > 1000 * TOLERANCE
