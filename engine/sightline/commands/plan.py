"""Show what would run for a method and why, without running it: sightline plan METHOD MODEL."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from sightline import registry
from sightline.commands._method_flags import command_summary, method_app, with_flags
from sightline.commands._options import ComputeOptions, ModelOptions
from sightline.registry import Method


def plan_method(
    model: Annotated[str, Parameter(help="An .onnx file, demo, torchvision:NAME[@WEIGHTS] or timm:NAME.")],
    /,
    *,
    method: Method,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    compute: ComputeOptions = ComputeOptions(),  # noqa: B008
) -> int:
    """Print the plan of one method."""
    with model_options.load(model) as network:
        plan = network.plan(method, **compute.plan_options())
        if json:
            facts = {
                "method": plan.method, "model": plan.model, "route": plan.route, "provider": plan.provider,
                "settings": asdict(plan.settings), "rewrite": plan.rewrite, "passes": plan.passes, "macs": plan.macs,
                "refusals": [{"route": refusal.route, "reasons": refusal.reasons} for refusal in plan.refusals],
            }  # fmt: skip
            print(json_format.dumps(facts))
        else:
            print(plan)
    return 0


plan = method_app("plan", command_summary(__file__), __name__)


def __getattr__(name: str) -> Callable[..., int]:
    if name not in registry.entries():
        raise AttributeError(name)
    return with_flags(registry.find(name), plan_method)
