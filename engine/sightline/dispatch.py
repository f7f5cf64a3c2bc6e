"""From what a method needs to a route that offers it. No numerics here."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sightline.errors import MissingProvider, NoRoute, SightlineError, UnknownName, UsageError
from sightline.registry import Method, declaration, method_name
from sightline.routes.base import Forecast, Request, Route, Settings
from sightline.target import Target, top
from sightline.types import Batch, Provenance, Result

if TYPE_CHECKING:
    from sightline.model import Model

ROUTES = ("ort", "tensorrt", "autograd")  # in order of preference; each a file in routes/ with a ROUTE


@dataclass(frozen=True)
class Refusal:
    """A route that was asked and why it cannot."""

    route: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.route}: {' '.join(self.reasons)}"


@dataclass(frozen=True)
class Plan:
    """What will run, decided before anything does. Printing it needs neither GPU nor images.

    Attributes:
        method: repr of the method.
        model: file name and the first 12 digits of its sha256.
        route, provider: where it will run.
        settings: device, threads, batch (None: found by measuring), memory.
        rewrite: graph passes that apply.
        passes: forward passes of the network per image.
        macs: multiply-accumulates per image.
        forecast: of a window sweep, what is predicted of it.
        refusals: routes that were asked before and why they cannot.
    """

    method: str
    model: str
    route: str
    provider: str
    settings: Settings
    rewrite: tuple[str, ...]
    passes: int
    macs: int
    forecast: Forecast | None
    refusals: tuple[Refusal, ...]
    _method: Method = field(repr=False, compare=False)
    _model: Model = field(repr=False, compare=False)

    def __str__(self) -> str:
        threads = "all cores" if self.settings.threads is None else f"{self.settings.threads} threads"
        batch = "found by measuring" if self.settings.batch is None else str(self.settings.batch)
        dense = f"{self.passes:,} forward passes"
        if self.forecast is not None and self.forecast.rewrite is not None:
            dense = (
                f"{self.forecast.speed_up:.1f} times as fast as {dense}, by prediction "
                f"({self.forecast.ceiling:.1f} by arithmetic)"
            )
        lines = [
            f"{self.method} on {self.model}",
            f"  route    {self.route} ({self.provider}, {threads})",
            f"  batch    {batch}",
            f"  rewrite  {', '.join(self.rewrite) or 'none'}",
            f"  cost     {self.macs / 1e9:.4g} GMAC per image, {dense}",
        ]
        if self.forecast is not None and self.forecast.reasons:
            lines.append(f"  dense    {', '.join(self.forecast.reasons)}")
        lines += [f"  refused  {refusal}" for refusal in self.refusals]
        return "\n".join(lines)

    def run(self, images: Batch | None = None, target: Target | None = None) -> Result:
        """Run it.

        Args:
            images: as ``sightline.read`` makes them; methods that look at the network alone take none.
            target: what to explain; the highest class of each image when None.

        Raises:
            UsageError: images that do not fit the model, or a target that it does not have.
        """
        images = self._model.empty_batch() if images is None else images
        target = top(1) if target is None else target
        if declaration(self._method).takes_images:
            self._model.check_batch(images)
        if declaration(self._method).takes_target:
            self._model.check_target(target, len(images) if declaration(self._method).takes_images else None)
        oracle = self._model.oracle(self)
        start = time.perf_counter()
        result = self._method.run(oracle, images, self._model.resolve_target(target))
        seconds = time.perf_counter() - start
        formula = repr(target) if declaration(self._method).takes_target else ""
        stamp = Provenance(self.method, formula, self.model, str(self), seconds)
        return cast(Result, replace(cast(Any, result), provenance=stamp))

    def measured(self, rows: int) -> Plan:
        """The same plan with the batch size settled for so many forward passes, by measuring where it pays."""
        batch = self._model.oracle(self).settled_batch(rows, rewritten=bool(self.rewrite))
        return replace(self, settings=replace(self.settings, batch=batch))


def route(name: str) -> Route:
    """The route of this name.

    Raises:
        UnknownName: with the names there are.
    """
    if name not in ROUTES:
        raise UnknownName("route", name, ROUTES)
    return cast(Route, importlib.import_module(f"sightline.routes.{name}").ROUTE)


def plan(method: Method, model: Model, settings: Settings, route_name: str | None = None) -> Plan:
    """The first route without reasons against it; a route that was named is the only one asked.

    Raises:
        NoRoute: none is left; the message holds every route's reasons.
        MissingProvider: the device that was asked for has no provider here.
    """
    needs = declaration(method).needs
    request = Request(needs, model, settings)
    refusals: list[Refusal] = []
    for name in (route_name,) if route_name else ROUTES:
        candidate = route(name)
        reasons = candidate.reasons_against(request)
        if not reasons:
            return _plan(method, model, candidate, settings, refusals)
        refusals.append(Refusal(name, tuple(reasons)))
    message = "\n".join(f"  {refusal}" for refusal in refusals)
    kind = MissingProvider if settings.device != "cpu" else NoRoute
    raise kind(f"{method_name(method)} needs {needs.__name__}, and no route offers it here:\n{message}")


def survey(model: Model, settings: Settings) -> Mapping[str, list[str]]:
    """For every route, what stands in its way on this model and machine; an empty list means that it ran one image.

    A route without obstacles is opened and run on noise, so that "works" is something that was seen: this is where a
    twin that differs from ONNX Runtime, or an operator that the runtime refuses, shows.
    """
    found: dict[str, list[str]] = {}
    for name in ROUTES:
        candidate = route(name)
        found[name] = candidate.obstacles(Request(candidate.offers[0], model, settings))
        if not found[name]:
            try:
                oracle = candidate.open(model, settings)
                oracle.read(oracle.noise(1), (model.output,))
                oracle.close()
            except SightlineError as reason:
                found[name] = [str(reason)]
    return found


def _plan(method: Method, model: Model, chosen: Route, settings: Settings, refusals: list[Refusal]) -> Plan:
    count = getattr(method, "forward_passes", None)
    height, width = model.input_size
    usual = chosen.cost if declaration(method).takes_images else 0
    passes = usual if count is None else int(count(height, width))
    if passes < 0 or not np.isfinite(passes):
        raise UsageError(f"{method!r} would run {passes} forward passes.")
    forecast = _forecast(method, model, chosen, settings)
    return Plan(
        method=repr(method),
        model=model.title,
        route=chosen.name,
        provider=chosen.provider(settings),
        settings=settings,
        rewrite=() if forecast is None or forecast.rewrite is None else (forecast.rewrite,),
        passes=passes,
        macs=passes * model.layers.macs if forecast is None else forecast.macs,
        forecast=forecast,
        refusals=tuple(refusals),
        _method=method,
        _model=model,
    )


def _forecast(method: Method, model: Model, chosen: Route, settings: Settings) -> Forecast | None:
    windows = getattr(method, "windows_of", None)
    if windows is None:
        return None
    return chosen.forecast(model, settings, windows(*model.input_size), getattr(method, "tolerance", 0.0))
