"""Weights shuffled layer by layer, from the output on."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from problems import convolutional
from sightline.graph.randomise import RandomiseWeights


def arrays(graph: ir.Model) -> dict[str, np.ndarray]:
    """Weights of at least two dimensions by the output that they make."""
    found = dict[str, np.ndarray]()
    for node in graph.graph:
        for value in node.inputs[1:2]:
            if value is not None and value.const_value is not None and len(value.const_value.shape) >= 2:
                found[str(node.outputs[0].name)] = value.const_value.numpy()
    return found


@pytest.mark.parametrize("seed", [0, 5])
def test_all_weights_are_those_of_before_in_another_order(seed: int) -> None:
    graph = ir.from_proto(convolutional().proto)
    before, after = arrays(graph), arrays(RandomiseWeights(1.0, seed)(graph))
    assert before.keys() == after.keys()
    for name, one in before.items():
        np.testing.assert_array_equal(np.sort(one.ravel()), np.sort(after[name].ravel()))
        assert (one != after[name]).any()
    again = arrays(RandomiseWeights(1.0, seed)(graph))
    assert all((again[name] == one).all() for name, one in after.items())


def test_the_last_layers_come_first() -> None:
    graph = ir.from_proto(convolutional().proto)
    before, after = arrays(graph), arrays(RandomiseWeights(1 / len(arrays(graph)), 0)(graph))
    changed = [bool((one != after[name]).any()) for name, one in before.items()]
    assert changed == [False] * (len(before) - 1) + [True]
