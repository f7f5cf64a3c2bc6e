"""What layers compute in where somebody chose it, and how far scores may then be from those in float32."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "tf32", "bf16"]
# largest difference of scores from those in fp32, relative to the largest score
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}
