"""Products of matrices."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node


@operator("Gemm")
def gemm(node: Node) -> Kernel:
    """Alpha A B + beta C, A and B transposed on request, C broadcast or absent."""
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    flip_a, flip_b = node.integer("transA", 0), node.integer("transB", 0)
    plain = alpha == beta == 1.0

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.t() if flip_a else a, b.t() if flip_b else b
        if a.is_floating_point():
            if c is not None and plain:
                return torch.addmm(c, a, b)
            product = a @ b if alpha == 1.0 else alpha * (a @ b)
        else:
            product = (alpha * (a @ b)).to(a.dtype)
        return product if c is None else (product + beta * c).to(a.dtype)

    return kernel


matmul = direct("MatMul")(torch.matmul)  # NumPy's matmul.


@operator("Einsum")
def einsum(node: Node) -> Kernel:
    """Sum of products, as the equation says."""
    equation = node.text("equation", "")
    return lambda *operands: torch.einsum(equation, *operands)
