"""The model as it is deployed: what a picture made on the twin is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from sightline.abilities import Differentiable, Forward
from sightline.methods.forward.predict import Predict
from sightline.routes.base import Settings

if TYPE_CHECKING:
    from sightline.model import Model


class _Opened(Protocol):
    @property
    def model(self) -> Model: ...
    @property
    def settings(self) -> Settings: ...


def model_of(oracle: Differentiable) -> Model:
    """The model that a route was opened for."""
    return cast(_Opened, oracle).model


def deployed(oracle: Differentiable) -> Forward:
    """The forward route of the same model, on ONNX Runtime."""
    settings = cast(_Opened, oracle).settings
    model = model_of(oracle)
    plan = model.plan(
        Predict(), device=settings.device, threads=settings.threads, batch=settings.batch, gpu=settings.gpu
    )
    return model.oracle(plan)
