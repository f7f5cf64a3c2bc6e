"""The machine that figures come from: what it is, and how much others disturbed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sightline import __version__

PROC, SYS = Path("/proc"), Path("/sys")
QUIET = 0.1  # share of the machine that others may use before a figure is called disturbed
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "tensorrt-cu13-libs", "numpy", "torch")
VECTORS = ("avx512_vnni", "avx512f", "avx2", "fma", "asimd", "sve")  # what decides the speed of a convolution


def facts() -> dict[str, Any]:
    """What a reader needs to know of this machine; None where the system does not tell."""
    info = cpu_info()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "vectors": [name for name in VECTORS if name in flags],
        "cores": os.cpu_count() or 1,
        "affinity": affinity(),
        "quota": cpu_quota(),
        "governor": governor(),
        "memory_mb": _megabytes("MemTotal"),
        "memory_limit_mb": memory_limit(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sightline": __version__,
        "versions": versions(),
    }


def affinity() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def governor() -> str | None:
    """How the system chooses the clock rate: "performance", "powersave", …; several where cores differ."""
    folder = SYS / "devices/system/cpu"
    found = {_text(path) for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    return ", ".join(sorted(found)) or None


def cpu_quota() -> float | None:
    """Cores' worth of time that a container may use; None without a limit."""
    words = _text(SYS / "fs/cgroup/cpu.max").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def memory_limit() -> float | None:
    """Megabytes (10^6) that a container may use; None without a limit."""
    text = _text(SYS / "fs/cgroup/memory.max")
    return int(text) / 1e6 if text.isdigit() else None


def versions() -> dict[str, str]:
    """Version by package, those that are installed."""
    found = dict[str, str]()
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_info() -> Mapping[str, str]:
    """The first processor's lines of /proc/cpuinfo; none elsewhere than on Linux."""
    lines = _text(PROC / "cpuinfo").split("\n\n", 1)[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


class Disturbance:
    """Counts from its making on what share of the machine's cores others were using, this process left out."""

    def __init__(self, before: tuple[float, float, float] | None):
        self._before = before

    @classmethod
    def begin(cls) -> Self:
        """Start to count."""
        return cls(_seconds())

    def share(self) -> float | None:
        """0 to 1; None where the system does not tell."""
        now = _seconds()
        if self._before is None or now is None:
            return None
        total, busy, own = (after - before for after, before in zip(now, self._before, strict=True))
        return min(1.0, max(0.0, (busy - own) / total)) if total > 0 else None


def _seconds() -> tuple[float, float, float] | None:
    """Seconds of all cores since the start of the system, those that were busy, and those of this process."""
    first = _text(PROC / "stat").split("\n", 1)[0].split()
    if len(first) < 9 or sys.platform == "win32":
        return None
    ticks = [int(word) for word in first[1:9]]
    idle = ticks[3] + ticks[4]  # idle and waiting for a disk; the last of the eight is time stolen by other machines
    per_second = os.sysconf("SC_CLK_TCK")
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return sum(ticks) / per_second, (sum(ticks) - idle) / per_second, own


def _megabytes(line: str) -> float | None:
    for one in _text(PROC / "meminfo").splitlines():
        if one.startswith(line):
            return int(one.split()[1]) * 1024 / 1e6
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
