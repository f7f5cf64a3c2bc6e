"""Show what this machine offers, and where a network's nodes would run: sightline doctor [MODEL]."""

from __future__ import annotations

import importlib.metadata
import json as json_format
import os
import platform
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from sightline import __version__
from sightline.commands._options import ModelOptions
from sightline.errors import SightlineError
from sightline.model import Model
from sightline.routes.base import Device, Settings
from sightline.routes.providers import PROVIDERS
from sightline.routes.sessions import (
    available_providers,
    installed_runtimes,
    open_session,
    placement,
    provider_obstacles,
)

PACKAGES = ("numpy", "onnx", "onnx-ir", "torch", "torchvision", "timm", "numba", "cupy-cuda13x", "pillow", "pyarrow")


def doctor(
    model: Annotated[
        str | None, Parameter(help="Also count its nodes by provider on every device that works.")
    ] = None,
    /,
    *,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Tell what can run here and what to install for the rest; exits 3 if not even the CPU route works."""
    facts = machine_facts()
    if model is not None:
        with model_options.load(model) as network:
            facts["nodes"] = {device: _nodes(network, device) for device in PROVIDERS if not facts["devices"][device]}
    print(json_format.dumps(facts) if json else _text(facts))
    return 0 if not facts["devices"]["cpu"] else 3


def machine_facts() -> dict[str, Any]:
    """Everything that the command tells."""
    return {
        "sightline": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "runtimes": installed_runtimes(),
        "providers": available_providers(),
        "devices": {device: provider_obstacles(device) for device in PROVIDERS},
        "gradients": [] if _version("torch") else ["torch is not installed: pip install 'sightline[torch]'."],
    }


def _nodes(network: Model, device: Device) -> dict[str, dict[str, int]] | str:
    """Nodes by provider and operator, or why there are none."""
    try:
        session = open_session(network, (network.logits_name,), Settings(device))
    except SightlineError as reason:
        return str(reason)
    return {provider: dict(kinds.most_common()) for provider, kinds in placement(session).items()}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(facts: dict[str, Any]) -> str:
    runtimes = ", ".join(f"{name} {version}" for name, version in facts["runtimes"].items())
    lines = [
        f"sightline {facts['sightline']}, Python {facts['python']} ({sys.executable})",
        f"machine    {facts['platform']}, {facts['cores']} cores",
        "packages   "
        + ", ".join(f"{name} {version or 'not installed'}" for name, version in facts["packages"].items()),
        f"runtime    {runtimes or 'none'}; providers {', '.join(facts['providers']) or 'none'}",
    ]
    for device, reasons in facts["devices"].items():
        lines.append(f"{device:<9}  {'works' if not reasons else ' '.join(reasons)}")
    for device, nodes in facts.get("nodes", {}).items():
        lines.append(f"on {device:<7} {nodes if isinstance(nodes, str) else '; '.join(map(_counted, nodes.items()))}")
    lines.append(f"gradients  {'work' if not facts['gradients'] else ' '.join(facts['gradients'])}")
    return "\n".join(lines)


def _counted(entry: tuple[str, dict[str, int]]) -> str:
    provider, kinds = entry
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{sum(kinds.values())} nodes on {provider} ({named})"
