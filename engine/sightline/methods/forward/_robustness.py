"""What curves of robustness share, whatever their attack may ask of a route."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from inspect import getmro
from typing import Any, cast

from sightline.abilities import Forward
from sightline.adversarial.examples import AdversarialExamples
from sightline.adversarial.robustness import Robustness, withstood
from sightline.errors import UsageError
from sightline.registry import Method, declaration, parse
from sightline.target import Target
from sightline.types import Batch


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An attack tried with growing epsilons; see the methods."""

    attack: str  # any method with an epsilon, with its other fields
    epsilons: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)  # pixel values of 0 to 255, ascending

    def run(self, oracle: Forward, images: Batch, target: Target) -> Robustness:
        attack = self._attack()

        def attacked(epsilon: float, some: Batch, aim: Target) -> AdversarialExamples:
            found = _sized(attack, epsilon).run(oracle, some, aim)
            assert isinstance(found, AdversarialExamples)
            return found

        return withstood(attacked, self.attack, images, target, self.epsilons)

    def forward_passes(self, height: int, width: int) -> int:
        """Those of the attack for every epsilon, which images leave when they are fooled."""
        attack = cast(Any, self._attack())
        return len(self.epsilons) * int(attack.forward_passes(height, width))

    def _attack(self) -> Method:
        attack = parse(self.attack)
        needs = declaration(cast(Method, self)).needs
        named = {field.name for field in fields(cast(Any, attack))}
        if "epsilon" not in named or declaration(attack).needs not in getmro(needs):
            raise UsageError(
                f"attack={self.attack!r} has no epsilon to vary, or needs more than {needs.__name__}. Choose "
                f"square_attack(queries=500){', pgd(steps=20) or fgsm' if needs is not Forward else ''}."
            )
        if not self.epsilons or list(self.epsilons) != sorted(set(self.epsilons)):
            raise UsageError(f"epsilons={self.epsilons} must be one or more sizes, each larger than the one before.")
        return attack


def _sized(attack: Method, epsilon: float) -> Method:
    return cast(Method, replace(cast(Any, attack), epsilon=epsilon))
