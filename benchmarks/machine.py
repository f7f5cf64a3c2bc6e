"""Where a figure was measured: the device's name, the versions, and how much others disturbed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Self

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
    info = _cpuinfo()
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
    statistics = Path("/proc/stat")
    if not statistics.exists():
        return None
    ticks = [int(word) for word in statistics.read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]  # idle and waiting for a disk; the last of the eight is time stolen by other machines
    rate = os.sysconf("SC_CLK_TCK")
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return sum(ticks) / rate, (sum(ticks) - idle) / rate, own


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n", 1)[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
