"""``torchvision:NAME[@WEIGHTS]``: torchvision's registered models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torchvision import models

from sightline_exporters.errors import MissingWeights, UnknownSource
from sightline_exporters.metadata import preprocess_fields
from sightline_exporters.sources import Request, Source
from sightline_exporters.weights import State, fetch, fit, read_weights

# What torchvision's builders set when they load weights: the input is first turned from ImageNet's scale to their
# own, and the auxiliary heads are present, since the files hold them.
WITH_AUXILIARY_HEADS = {"transform_input": True, "aux_logits": True, "init_weights": False}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": WITH_AUXILIARY_HEADS,
    "inception_v3": WITH_AUXILIARY_HEADS,
}


def build(request: Request) -> Source:
    """The model with its weights; preprocessing and labels are those of the named or default weights.

    Raises:
        UnknownSource: no such model or weights.
        MissingWeights, BadWeights: no weights, or they do not fit.
    """
    name = request.name.lower()
    if name not in models.list_models():
        raise UnknownSource("torchvision model", request.name, models.list_models())
    entry = _weights(name, request.weights)
    module: torch.nn.Module = models.get_model(name, weights=None, **_arguments(name))
    if request.file is not None:
        fit(module, _known(module, read_weights(request.file)), str(request.file))
        weights = request.file.name
    elif request.random:
        weights = "random"
    elif entry is None:
        raise MissingWeights(f"torchvision publishes no weights of {name}. Pass --weights FILE, or @none.")
    else:
        path = fetch(entry.url)
        fit(module, _known(module, read_weights(path)), str(path))
        weights = entry.name
    meta: Mapping[str, Any] = entry.meta if entry is not None else {}
    preprocess = None if entry is None else _preprocess(entry.transforms())
    size: Any = None if preprocess is None else preprocess["crop"]
    return Source(
        module=module,
        description=f"torchvision:{name}@{weights}",
        channels=3,
        size=None if size is None else (size[0], size[1]),
        preprocess=preprocess,
        labels=meta.get("categories"),
    )


def _arguments(name: str) -> Mapping[str, Any]:
    """What the builder is given: segmentation and detection models would fetch weights of their backbones."""
    backbone = "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters
    return {**ARGUMENTS.get(name, {}), **({"weights_backbone": None} if backbone else {})}


def _weights(name: str, wanted: str) -> Any:
    """Member of the model's enumeration of weights; None if there is none and none is asked for."""
    known: Any = models.get_model_weights(name)
    names = list(known.__members__)
    if not wanted:
        return known["DEFAULT"] if "DEFAULT" in names else None
    for member in names:
        if member.lower() == wanted.lower():
            return known[member]
    raise UnknownSource(f"weights of {name}", wanted, names)


def _preprocess(transforms: Any) -> dict[str, object] | None:
    """The fields of torchvision's classification preset; other presets do more than the fields can say."""
    if type(transforms).__name__ != "ImageClassification":
        return None
    return preprocess_fields(
        resize=transforms.resize_size[0] if len(transforms.resize_size) == 1 else transforms.resize_size,
        crop=transforms.crop_size * 2 if len(transforms.crop_size) == 1 else transforms.crop_size,
        interpolation=transforms.interpolation.value,
        antialias=bool(transforms.antialias),
        mean=transforms.mean,
        std=transforms.std,
    )


def _known(module: torch.nn.Module, state: State) -> State:
    """A published file's weights as today's modules know them.

    DenseNet's files still call ``norm1`` ``norm.1``, as modules once could; those of segmentation have a second head,
    for training alone.
    """
    unused = () if "aux_classifier" in dict(module.named_children()) else ("aux_classifier.",)
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name): value
        for name, value in state.items()
        if not name.startswith(unused)
    }
