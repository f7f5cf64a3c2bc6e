"""Where a figure was measured: the device's name, the versions, and how much others disturbed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from sightline.bench.machine import Disturbance, cpu_info

__all__ = ["Disturbance", "commit", "cores", "device", "slug", "versions"]

VECTORS = ("avx512f", "avx2", "asimd")  # instruction sets as /proc/cpuinfo spells them, the widest first
PACKAGES = ("torch", "onnxruntime", "captum", "numpy")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> str:
    """The processor in words fit for a file name: vendor's model, cores, widest vectors.

    >>> import re
    >>> bool(re.fullmatch(r"[a-z0-9-]+-[0-9]+core(-[a-z0-9]+)?", device()))
    True
    """
    info = cpu_info()
    model = info.get("model name") or platform.processor() or platform.machine()
    flags = (info.get("flags") or info.get("Features") or "").split()
    vectors = next((name for name in VECTORS if name in flags), "")
    return slug(f"{model} {cores()}core {vectors}")


def slug(words: str) -> str:
    """Lower-case words joined by dashes, without trademarks and clock rates.

    >>> slug("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz 2core avx2")
    'intel-xeon-e5-2690-v4-2core-avx2'
    """
    plain = re.sub(r"\((r|tm)\)|@.*?hz|\b(cpu|processor)\b", " ", words.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def versions() -> dict[str, str]:
    """Version by package, "" where it is not installed."""
    return {name: _version(name) for name in PACKAGES}


def commit() -> str:
    """The checkout's short commit, with a plus where files differ from it; "" outside a checkout."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
