"""One call of sightline run: what it works on, and where its results go."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sightline import registry
from sightline.commands._progress import ProgressLine
from sightline.commands._workers import FileNames, WorkerOptions, say_untried
from sightline.dispatch import Plan
from sightline.errors import BadImage, UsageError
from sightline.job.crew import Engine
from sightline.job.inputs import Inputs, inputs_from, load_photo
from sightline.job.manifest import JobHeader, stored_header
from sightline.job.reader import open_job
from sightline.job.recipe import Explainer, ModelRecipe
from sightline.job.run import JobSummary, run_job, run_once
from sightline.methods.forward.predict import Predict, Predictions
from sightline.model import Model
from sightline.registry import Method
from sightline.routes.base import Settings
from sightline.target import Target, class_scores
from sightline.types import Batch, Collective, Files, Photo, Result, joined

if TYPE_CHECKING:
    from sightline.commands.run import OutputOptions

ROWS_SHOWN = 10_000  # rows of the table that --json prints; more stay in the Parquet files


class RunJob:
    """One call of the command."""

    def __init__(
        self, model: Model, method: Method, out: Path, target: Target, options: OutputOptions, workers: WorkerOptions
    ):
        self.model, self.method, self.out, self.target, self.options = model, method, out, target, options
        self.workers, self.resume = workers, options.resume or workers.retry_failed
        if options.limit is not None and options.limit < 1:
            raise UsageError(f"--limit {options.limit} must be at least 1.")
        if options.shard < 1 or options.report_images < 1:
            raise UsageError("--shard and --report-images must be at least 1.")
        if registry.declaration(method).takes_target:
            model.check_target(target)
            several = any(isinstance(part.index, tuple) for part in class_scores(target))
            if several and registry.declaration(method).takes_images:
                raise UsageError(f"Target {target!r} names one class per image; a job has many. Give one for all.")
        self.plan: Plan | None = None
        self.inputs = Inputs(())
        self.page: Path | None = None  # of the report, once it is written
        self.whole: Collective | None = None  # all rows of this run, where they say something together

    def over_images(self, plan: Plan, images: tuple[str, ...]) -> JobSummary:
        """Run over every image, shard by shard."""
        if not images:
            raise UsageError(f"{registry.method_name(self.method)} looks at images: name files, folders or patterns.")
        preprocess = self.model.preprocess
        found = inputs_from(images)
        self.inputs = Inputs(found.entries[: self.options.limit])
        self.plan = self._settled(plan)
        none = self.plan.run(target=self.target)  # a wrong layer or parameter is told before OUT is made
        if isinstance(none, Collective) and self.workers.elsewhere:
            name = registry.method_name(self.method)
            raise UsageError(f"{name} joins all rows in one process: leave --workers and --on out.")
        if self.workers.on_cluster and (self.options.overlays or isinstance(none, Files)):
            what = "--overlays" if self.options.overlays else registry.method_name(self.method)
            raise UsageError(
                f"{what} writes files where a worker is, and --on {self.workers.on} may have workers on other "
                "machines, whose disks nobody collects. Use --workers N or --on ray; overlays can also be drawn of a "
                "finished job: sightline jobs export OUT FOLDER --model MODEL."
            )
        header = self._header(preprocess.sha256)
        wanted = self.options.report_images if self.options.report else 0
        wanted = len(self.inputs) if isinstance(none, Collective) else wanted
        names = FileNames([one.id for one in self.inputs.entries] if isinstance(none, Files) else [])
        explainer = self._explainer()
        explainer.name(names)
        engine = self._engine(header)
        with ProgressLine(registry.method_name(self.method)) as progress:
            summary = run_job(
                self.out, header, self.inputs, load_photo(self.model.photograph), explainer,
                resume=self.resume, retry_failed=self.workers.retry_failed, progress=progress, keep=wanted,
                labels=self.model.labels, limits=self.workers.limits(), engine=engine,
                names=names.of if isinstance(none, Files) else None,
            )  # fmt: skip
        if isinstance(none, Collective) and summary.kept:
            whole = joined(summary.kept)
            self.whole = cast(Collective, whole)
            if self.options.overlays:
                from sightline.report import write_overlays

                write_overlays(whole, self.out / "overlays", labels=self.model.labels)
        return summary

    def over_model(self, plan: Plan) -> JobSummary:
        """Run once, for a method that looks at the model alone."""
        self.plan = plan
        header = replace(self._header(""), rows="model")
        new = stored_header(self.out) is None
        first = plan.run(target=self.target) if new else None  # before OUT is made, as above
        return run_once(
            self.out, header, lambda: self._explainer().drawn(first or plan.run(target=self.target)),
            resume=self.resume,
        )  # fmt: skip

    def write_report(self, summary: JobSummary) -> None:
        """One page of the first images; those that an earlier run explained are explained again for it."""
        from sightline.report import report

        assert self.plan is not None
        kept = summary.kept
        if registry.declaration(self.method).takes_images:
            kept = self._again() if summary.skipped or not kept else kept
            if not kept:
                return  # every image was set aside
        result = joined(kept or (self.plan.run(target=self.target),))
        photos = result.photos[: self.options.report_images]
        predictions = self._predictions(photos) if photos and not isinstance(result, Predictions) else None
        self.page = self.out / "report.html"
        report(
            photos, [result], model=self.model.facts, predictions=predictions, labels=self.model.labels,
            limit=self.options.report_images, set_aside=[(one.id, one.reason) for one in summary.set_aside],
        ).save(self.page)  # fmt: skip

    def tell(self, summary: JobSummary) -> None:
        """Say what was done: one JSON object on stdout, or a few lines."""
        say_untried(summary.untried)
        if self.options.json:
            print(json.dumps(self._facts(summary), ensure_ascii=False))
            return
        rows = f"{summary.done} rows in {summary.seconds:.1f} s"
        if summary.skipped:
            rows += f", {summary.skipped} inputs were finished before"
        print(f"{self.out}: {rows}.")
        for name, value in ({} if self.whole is None else self.whole.summary()).items():
            print(f"{name}: {value}")
        if self.page is not None:
            left = len(self.inputs.entries) - self.options.report_images
            print(f"Report: {self.page}" + (f" (without the last {left}: --report-images)" if left > 0 else ""))
        if self.options.overlays and summary.skipped:
            print(f"No overlays were drawn for {summary.skipped} inputs finished before.", file=sys.stderr)
        elif self.options.overlays and summary.done and not (self.out / "overlays").is_dir():
            name = registry.method_name(self.method)
            print(f"No overlays were drawn: what {name} returns is no picture.", file=sys.stderr)
        for one in summary.set_aside:
            print(f"Set aside: {one.id}: {one.reason}", file=sys.stderr)
        if summary.restarts:
            print(f"{summary.restarts} workers died and were replaced.", file=sys.stderr)
        if summary.stopped:
            why = f" by {summary.why}" if summary.why else ""
            print(f"Stopped{why} before the end; the same call with --resume goes on.", file=sys.stderr)

    def _explainer(self) -> Explainer:
        assert self.plan is not None
        return Explainer(self.model, self.plan, self.target, self.out, overlays=self.options.overlays)

    def _engine(self, header: JobHeader) -> Engine | None:
        """Workers, if there are to be any."""
        assert self.plan is not None
        if not self.workers.elsewhere:
            return None
        target = self.target if registry.declaration(self.method).takes_target else None
        recipe = ModelRecipe.of(self.model, self.method, self.plan, target, self.out, overlays=self.options.overlays)
        return self.workers.engine(recipe, header, self.out, self.plan.settings.device)

    def _predictions(self, photos: Sequence[Photo]) -> Result | None:
        """What the network says of the photos on the page; None for a network without classes."""
        views = [photo.view for photo in photos if photo.view is not None]
        try:
            settings = self.plan.settings if self.plan is not None else Settings()
            plan = self.model.plan(Predict(), device=settings.device, threads=settings.threads, gpu=settings.gpu)
            return plan.run(Batch(self.model.preprocess.normalise(np.stack(views)), tuple(photos)))
        except UsageError:
            return None

    def _again(self) -> tuple[Result, ...]:
        load, results = load_photo(self.model.photograph), cast("list[Result]", [])
        for one in self.inputs.entries[: self.options.report_images]:
            with suppress(BadImage):
                loaded = load(one)
                assert self.plan is not None
                results.append(self.plan.run(Batch(loaded.tensor[None], (loaded.photo,)), self.target))
        return tuple(results)

    def _settled(self, plan: Plan) -> Plan:
        """The plan with its batch size: the one of the job that is there, so that resumed rows are the same bytes."""
        there = stored_header(self.out) if self.resume else None
        if there is not None and plan.settings.batch is None:
            return replace(plan, settings=replace(plan.settings, batch=there.batch))
        return plan.measured(len(self.inputs) * plan.passes)

    def _header(self, preprocess_sha256: str) -> JobHeader:
        assert self.plan is not None
        return JobHeader(
            model=self.model.path.name,
            model_sha256=self.model.sha256,
            method=repr(self.method),
            target=repr(self.target) if registry.declaration(self.method).takes_target else "",
            preprocess_sha256=preprocess_sha256,
            output=self.model.output,
            plan=str(self.plan),
            dtype=self.options.dtype,
            batch=self.plan.settings.batch or 1,
            shard_size=self.options.shard,
        )

    def _facts(self, summary: JobSummary) -> dict[str, Any]:
        job = open_job(self.out)
        return {
            "command": "run",
            "out": str(self.out),
            "model": {"file": self.model.path.name, "sha256": self.model.sha256},
            "method": {"name": registry.method_name(self.method), **registry.parameters(self.method)},
            "target": repr(self.target) if registry.declaration(self.method).takes_target else None,
            "plan": str(self.plan),
            "report": None if self.page is None else str(self.page),
            "summary": None if self.whole is None else self.whole.summary(),
            "finished": not summary.stopped,
            "stopped_by": summary.why or None,
            "restarts": summary.restarts,
            "done": summary.done,
            "skipped": summary.skipped,
            "seconds": summary.seconds,
            "set_aside": [{"id": one.id, "path": one.path, "reason": one.reason} for one in summary.set_aside],
            "count": len(job),
            "rows": job.table().to_pylist() if len(job) <= ROWS_SHOWN else None,
        }
