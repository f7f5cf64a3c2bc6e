"""``timm:NAME[@TAG]``: the models of timm; ``resnet50@a1_in1k`` and timm's own ``resnet50.a1_in1k`` are the same."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import torch

from sightline_exporters.errors import MissingExtra, MissingWeights, UnknownSource
from sightline_exporters.metadata import INTERPOLATIONS, preprocess_fields
from sightline_exporters.sources import Request, Source
from sightline_exporters.weights import State, fetch, fit, mismatches, read_weights


def build(request: Request) -> Source:
    """The model with its weights; preprocessing and labels are those of its pretrained configuration.

    Raises:
        MissingExtra: timm is not installed.
        UnknownSource: no such model or tag.
        MissingWeights, BadWeights: no weights, or they do not fit.
    """
    timm = _timm()
    name = f"{request.name}.{request.weights}" if request.weights else request.name
    _check_name(timm, name)
    module: torch.nn.Module = timm.create_model(name, pretrained=False)
    config: Any = module.pretrained_cfg
    weights = "random"
    if not request.random or request.file is not None:
        path = request.file or _published(config, name)
        weights = path.name if request.file is not None else str(config["tag"] or "default")
        module = _filled(timm, name, module, read_weights(path), str(path))
    data: Any = timm.data.resolve_model_data_config(module)
    channels, height, width = data["input_size"]
    return Source(
        module=module,
        description=f"timm:{request.name}@{weights}",
        channels=channels,
        size=(height, width),
        preprocess=_preprocess(data),
        labels=_labels(timm, module),
    )


def _timm() -> Any:
    try:
        timm: Any = importlib.import_module("timm")
        importlib.import_module("timm.data")
    except ModuleNotFoundError as reason:
        raise MissingExtra("Models of timm need the extra 'timm': pip install 'sightline[timm]'.") from reason
    return timm


def _check_name(timm: Any, name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownSource("timm model", architecture, timm.list_models())
    known = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in known:
        raise UnknownSource(f"weights of {architecture}", tag, known)


def _published(config: Any, name: str) -> Path:
    """The file that timm publishes: in the Hugging Face cache, else in torch's, else fetched."""
    hub: str | None = config.get("hf_hub_id")
    if hub:
        file_name = config.get("hf_hub_filename") or "model.safetensors"
        cached: Any = importlib.import_module("huggingface_hub").try_to_load_from_cache(hub, file_name)
        if isinstance(cached, str):
            return Path(cached)
        # Not through huggingface_hub, which repeats failed requests for minutes.
        return fetch(
            f"https://huggingface.co/{hub}/resolve/main/{file_name}", f"{hub.replace('/', '--')}--{file_name}"
        )
    if config.get("url"):
        return fetch(config["url"])
    raise MissingWeights(f"timm publishes no weights of {name}. Pass --weights FILE, or @none for random ones.")


def _filled(timm: Any, name: str, module: torch.nn.Module, state: State, origin: str) -> torch.nn.Module:
    """The module with its weights; files in an author's original layout go through timm's own conversion."""
    if mismatches(module, state):
        try:
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
        except Exception:  # timm's conversions stumble over foreign files in many ways
            pass  # the list of what does not fit says more
    fit(module, state, origin)
    return module


def _preprocess(data: Any) -> dict[str, object] | None:
    """Timm's evaluation transform; None for its modes that pad or choose at random."""
    size: list[int] = list(data["input_size"][1:])
    if data["interpolation"] not in INTERPOLATIONS or data["crop_mode"] == "border":
        return None
    scaled = [math.floor(side / data["crop_pct"]) for side in size]
    if data["crop_mode"] != "squash" and scaled[0] != scaled[1]:
        return None
    channels = "L" if data["input_size"][0] == 1 else "RGB"
    return preprocess_fields(
        resize=scaled if data["crop_mode"] == "squash" else scaled[0],
        crop=size,
        interpolation=data["interpolation"],
        channels=channels,
        mean=data["mean"],
        std=data["std"],
    )


def _labels(timm: Any, module: Any) -> list[str] | None:
    """Names of the ImageNet classes, if these are what the model tells apart."""
    subset: str | None = timm.data.infer_imagenet_subset(module)
    return list(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else None
