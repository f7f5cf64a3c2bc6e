"""How to open a model and a method in whatever process works on a job."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.dispatch import Plan
from sightline.errors import BadModel, UsageError
from sightline.job.files import make_folder, write_atomically
from sightline.job.inputs import load_photo
from sightline.job.work import Opened
from sightline.model import Model, load
from sightline.preprocess import Preprocess
from sightline.registry import Method
from sightline.routes.base import Settings
from sightline.target import Target
from sightline.types import Batch, Collective, Files, Remarks, Result

LOGGER = logging.getLogger("sightline")


class Explainer:
    """Runs a plan on batches, and draws what a command was asked to draw.

    Args:
        model: that the plan is of.
        plan: with its batch settled.
        target: what to explain.
        out: where pictures and files go.
        overlays: whether a PNG is written of every map.
    """

    def __init__(
        self, model: Model, plan: Plan, target: Target | None, out: Path | None = None, *, overlays: bool = False
    ):
        self.model, self.plan, self.target, self.out, self.overlays = model, plan, target, out, overlays
        self.names: Mapping[str, str] = {}  # of files, by input id

    def __call__(self, batch: Batch) -> Result:
        """The result for a batch."""
        return self.drawn(self.plan.run(batch, self.target))

    def drawn(self, result: Result) -> Result:
        """The same result, its remarks said and its pictures written."""
        if isinstance(result, Remarks):
            for remark in result.remarks():
                print(remark, file=sys.stderr)
        if self.out is None:
            return result
        if isinstance(result, Files):
            for name, content in result.files(self.names):
                path = self.out / name
                make_folder(path.parent)
                write_atomically(path, [content])
        if self.overlays and not isinstance(result, Collective):
            from sightline.report import write_overlays  # pages and templates, which few jobs need

            write_overlays(result, self.out / "overlays", labels=self.model.labels)
        return result

    def shrink(self) -> bool:
        """Halve what one run of the network holds, opened anew; False where it is one image already."""
        batch = self.plan.settings.batch
        if batch is None or batch <= 1 or self.model.input.batch is not None:
            return False
        self.model.close()
        self.plan = replace(self.plan, settings=replace(self.plan.settings, batch=batch // 2))
        LOGGER.info("memory did not suffice: %d forward passes at once from here on", batch // 2)
        return True

    def name(self, names: Mapping[str, str]) -> None:
        """Say what the files of inputs are called."""
        self.names = names


@dataclass(frozen=True)
class ModelRecipe:
    """A model's file and a plan, in words that any process understands.

    Attributes:
        path: of the model.
        preprocess: as JSON, "" where nobody said it.
        size: of images, where the graph leaves it open.
        output: that holds the scores.
        labels: names of the classes.
        method: what runs.
        target: its formula, "" where the method has none.
        settings, route: of the plan.
        out: where pictures and files go, "" for nowhere.
        overlays: whether a PNG is written of every map.
        sha256: of the model.
    """

    path: str
    preprocess: str
    size: tuple[int, int] | None
    output: str
    labels: tuple[str, ...]
    method: Method
    target: str
    settings: Settings
    route: str
    out: str = ""
    overlays: bool = False
    sha256: str = ""

    @classmethod
    def of(
        cls,
        model: Model,
        method: Method,
        plan: Plan,
        target: Target | None,
        out: Path | None,
        *,
        overlays: bool = False,
    ) -> ModelRecipe:
        """Of an opened model and a plan whose batch is settled.

        Raises:
            UsageError: the model has no file that another process could open.
        """
        if not model.path.is_file():
            raise UsageError(
                f"Workers open the model from a file, and {model.path.name} was exported for this call alone: "
                "sightline export MODEL -o FILE.onnx, then run FILE.onnx."
            )
        return cls(
            path=str(model.path.absolute()),
            preprocess=model.preprocess.to_json() if model.has_preprocess else "",
            size=model.input_size if model.input.size is None else None,
            output=model.output,
            labels=tuple(model.labels),
            method=method,
            target="" if target is None else repr(target),
            settings=plan.settings,
            route=plan.route,
            out="" if out is None else str(out.absolute()),
            overlays=overlays,
            sha256=model.sha256,
        )

    def with_threads(self, threads: int) -> ModelRecipe:
        """The same for a worker that has so many cores."""
        return replace(self, settings=replace(self.settings, threads=threads))

    @contextmanager
    def open(self) -> Generator[Opened]:
        """Load the model once, and keep its route open.

        Raises:
            BadModel: the file is not here, or not the one that the job began with.
        """
        preprocess = Preprocess.from_json(self.preprocess) if self.preprocess else None
        labels: Sequence[str] | None = self.labels or None
        with load(self.path, preprocess=preprocess, labels=labels, size=self.size, output=self.output) as model:
            if model.sha256 != self.sha256:
                raise BadModel(f"{self.path} is another model here than where the job was begun.")
            chosen = self.settings
            plan = model.plan(
                self.method, device=chosen.device, threads=chosen.threads, batch=chosen.batch, memory=chosen.memory,
                sweep=chosen.sweep, route=self.route,
            )  # fmt: skip
            target = Target.parse(self.target) if self.target else None
            explainer = Explainer(model, plan, target, Path(self.out) if self.out else None, overlays=self.overlays)
            yield Opened(load_photo(model.photograph), explainer, tuple(model.labels), explainer.name)
