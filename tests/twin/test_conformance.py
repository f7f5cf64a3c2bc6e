"""Every node case of ONNX's own conformance suite whose operators the twin has."""

from __future__ import annotations

import re
import warnings
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.backend.test.case.test_case import TestCase as Case

from sightline.errors import UnsupportedOperator
from sightline.twin import Twin, unsupported
from sightline.twin.catalogue import lookup
from sightline.twin.reading import inline, read_nodes
from sightline.twin.tensors import tensor_of
from twin.graphs import by_runtime

# What is refused, and why. The case then tests that it is: by a sentence that says the same.
REFUSED = {
    "elements of type (STRING|U?INT2|U?INT4|FLOAT4E2M1|FLOAT8E8M0)": "torch has no such element type",
    "results depend on the batch": "batch statistics would mix the images of a batch",
    "drops at random": "random numbers have no reference",
}
# Where the suite and ONNX Runtime differ, the twin follows the runtime that it is proven against.
AS_ONNX_RUNTIME = {
    "test_resize_downsample_scales_linear_align_corners": "corners of the rounded size, as torch has it too",
    "test_resize_downsample_scales_cubic_align_corners": "corners of the rounded size, as torch has it too",
}
# Chains of ten and more operations whose reference rounds elsewhere: compared at four units of the last place.
COARSE = {r"_(bf16|fp16)_expanded": {torch.bfloat16: 2**-6, torch.float16: 2**-8}}


def collect() -> list[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about the overflows that the suite makes on purpose
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if _is_covered(case.model)]


@cache
def _has(domain: str, operator: str, version: int) -> bool:
    return lookup(domain, operator, version) is not None


def _is_covered(model: onnx.ModelProto) -> bool:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if model.functions:
        nodes = read_nodes(inline(ir.serde.deserialize_model(model)))
        return all(_has(node.domain, node.operator, node.version) for node in nodes)
    return all(_has(node.domain, node.op_type, versions.get(node.domain, 1)) for node in model.graph.node)


CASES = collect()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    model = ir.serde.deserialize_model(case.model)
    reasons = unsupported(model)
    if reasons:
        assert all(any(re.search(known, reason) for known in REFUSED) for reason in reasons), reasons
        with pytest.raises(UnsupportedOperator, match="forward-only"):
            Twin(model)
        return
    twin = Twin(model)
    for arrays, expected in case.data_sets:
        feeds = {name: _tensor(array) for name, array in zip(twin.inputs, arrays, strict=True)}
        if case.name.startswith("test_training_dropout"):
            with pytest.raises(UnsupportedOperator, match="drops at random"):
                twin.run(feeds, twin.outputs)
            continue
        found = twin.run(feeds, twin.outputs)
        if case.name in AS_ONNX_RUNTIME:
            named = by_runtime(case.model, dict(zip(twin.inputs, arrays, strict=True)))
            expected = [named[name] for name in twin.outputs]
        for name, array in zip(twin.outputs, expected, strict=True):
            _assert_close(found[name], _tensor(array), case)


def test_suite_is_not_empty() -> None:
    assert len(CASES) > 1300


def _tensor(array: np.ndarray | onnx.TensorProto) -> torch.Tensor:
    if isinstance(array, onnx.TensorProto):
        return tensor_of(ir.serde.deserialize_tensor(array))
    return tensor_of(ir.tensor(array))


def _assert_close(ours: torch.Tensor, theirs: torch.Tensor, case: Case) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    coarse = next((units for name, units in COARSE.items() if re.search(name, case.name)), {})
    relative = max(case.rtol, coarse.get(ours.dtype, 0.0))
    np.testing.assert_allclose(ours.double().numpy(), theirs.double().numpy(), rtol=relative, atol=case.atol)
