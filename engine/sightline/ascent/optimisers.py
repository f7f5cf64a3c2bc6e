"""What becomes of a gradient: each optimiser is a value that opens one of torch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer


class Optimiser(Protocol):
    """Opens a torch optimiser over the parameters of a picture.

    Attributes:
        together: True when what it does to one row does not depend on the others.
    """

    together: ClassVar[bool]

    def open(self, parameters: Sequence[Tensor], rate: float) -> Optimizer:
        """Ready to descend."""
        ...


@dataclass(frozen=True)
class Adam:
    """Kingma, Ba, "Adam: A Method for Stochastic Optimization" (2015)."""

    together: ClassVar[bool] = True

    def open(self, parameters: Sequence[Tensor], rate: float) -> Optimizer:
        return torch.optim.Adam(parameters, lr=rate)


@dataclass(frozen=True)
class LBFGS:
    """Liu, Nocedal, "On the limited memory BFGS method" (1989), strong Wolfe line search; one iteration per step.

    Attributes:
        memory: steps that the curvature is learnt from.
    """

    together: ClassVar[bool] = False  # one length is searched for all numbers at once

    memory: int = 20

    def open(self, parameters: Sequence[Tensor], rate: float) -> Optimizer:
        return torch.optim.LBFGS(
            parameters, lr=rate, max_iter=1, max_eval=25, history_size=self.memory, line_search_fn="strong_wolfe",
            tolerance_grad=0, tolerance_change=0,
        )  # fmt: skip


@dataclass(frozen=True)
class NormalisedGradient:
    """Steps along the gradient over its mean magnitude: every row moves by ``rate`` per number on average."""

    together: ClassVar[bool] = True

    def open(self, parameters: Sequence[Tensor], rate: float) -> Optimizer:
        return _Normalised(parameters, {"lr": rate})


class _Normalised(Optimizer):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert closure is not None
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    sizes = parameter.grad.abs().flatten(1).mean(dim=1).clamp_min(torch.finfo(parameter.dtype).tiny)
                    shape = (-1, *(1 for _ in parameter.shape[1:]))
                    parameter -= group["lr"] * parameter.grad / sizes.reshape(shape)
        return loss
