"""Writing over operands changes no value that anybody reads, and no gradient."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from problems import make_model, node
from sightline.twin import Twin, deconvnet, guided_backprop
from sightline.twin.rules import Rule

ARRAYS = {
    name: np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 4
    for seed, (name, shape) in enumerate({"w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 4, 1, 1)}.items())
}
CONVOLUTION = {"pads": [1, 1, 1, 1]}


def residual() -> Twin:
    """Two convolutions around which the first's ReLU is added, and one of another that two nodes read."""
    nodes = [
        node("Conv", "x w1", "a", **CONVOLUTION),
        node("Relu", "a", "b"),
        node("Conv", "b w2", "c", **CONVOLUTION),
        node("Relu", "c", "d"),
        node("Conv", "d w3", "e"),
        node("Add", "e b", "f"),
        node("Relu", "f", "g"),
        node("Add", "a g", "h"),  # reads what the first ReLU would have written over
        node("Relu", "h", "y"),
    ]
    return Twin(
        ir.from_proto(
            make_model(nodes, ARRAYS, shape=(None, 3, 9, 7), outputs={"y": (None, 4, 9, 7)}, input_name="x")
        )
    )


def by_hand(x: torch.Tensor, rule: Rule | None) -> dict[str, torch.Tensor]:
    """The same values, each kept."""
    weights = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}

    def relu(value: torch.Tensor) -> torch.Tensor:
        return torch.relu(value) if rule is None else Masked.apply(value, rule)  # pyright: ignore

    a = torch.conv2d(x, weights["w1"], padding=1)
    b = relu(a)
    c = torch.conv2d(b, weights["w2"], padding=1)
    d = relu(c)
    e = torch.conv2d(d, weights["w3"])
    f = e + b
    g = relu(f)
    h = a + g
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, "g": g, "h": h, "y": relu(h)}


class Masked(torch.autograd.Function):
    """A ReLU whose gradient is masked as its rule says, written out."""

    @staticmethod
    def forward(ctx, value, rule):  # pyright: ignore
        ctx.save_for_backward(value)
        ctx.rule = rule
        return value.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore
        (value,) = ctx.saved_tensors
        kept = torch.ones_like(value)
        if ctx.rule.where_input_positive:
            kept = kept * (value > 0)
        if ctx.rule.where_gradient_positive:
            kept = kept * (gradient > 0)
        return gradient * kept, None


@pytest.mark.parametrize("rule", [None, guided_backprop, deconvnet])
@pytest.mark.parametrize("asked", ["y", "y a", "y c f", "g y", "b d y h"])
def test_values_and_gradients_are_those_of_a_network_that_keeps_everything(asked: str, rule: Rule | None) -> None:
    twin, names = residual(), asked.split()
    drawn = torch.from_numpy(np.random.default_rng(7).normal(size=(2, 3, 9, 7)).astype(np.float32))
    ours, theirs = drawn.clone().requires_grad_(), drawn.clone().requires_grad_()
    found, expected = twin.run({"x": ours}, names, rule=rule), by_hand(theirs, rule)
    for name in names:
        torch.testing.assert_close(found[name], expected[name])
    weights = [torch.randn(found[name].shape, generator=torch.Generator().manual_seed(1)) for name in names]
    (slope,) = torch.autograd.grad([found[name] for name in names], ours, weights)
    (told,) = torch.autograd.grad([expected[name] for name in names], theirs, weights)
    torch.testing.assert_close(slope, told)
    torch.testing.assert_close(
        weights[0], torch.randn(found[names[0]].shape, generator=torch.Generator().manual_seed(1))
    )
    torch.testing.assert_close(ours.detach(), drawn)  # what the caller gave stays


def test_second_derivatives_see_the_first_ones_unchanged() -> None:
    twin = residual()
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 3, 9, 7)).astype(np.float32)).requires_grad_()

    def curvature(value: torch.Tensor) -> torch.Tensor:
        (slope,) = torch.autograd.grad(value.square().sum(), x, create_graph=True)
        (found,) = torch.autograd.grad(slope.square().sum(), x)
        return found

    found, expected = curvature(twin.run({"x": x}, ["y"])["y"]), curvature(by_hand(x, None)["y"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
