"""Explain images with a method and write the results: sightline run METHOD MODEL IMAGES… -o OUT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from sightline import registry
from sightline.commands._method_flags import command_summary, method_app, with_flags
from sightline.commands._options import ComputeOptions, ModelOptions
from sightline.commands._workers import WorkerOptions
from sightline.registry import Method

OUTPUT = Group("Output", sort_key=0)


@Parameter(name="*", group=OUTPUT)
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written."""

    resume: Annotated[bool, Parameter(help="Go on with the job that is in OUT.", negative="")] = False
    overlays: Annotated[bool, Parameter(help="Also write a PNG of every map.", negative="")] = False
    report: Annotated[bool, Parameter(help="Also write OUT/report.html.", negative="")] = False
    report_images: Annotated[int, Parameter(help="Images in the report.")] = 48
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False
    limit: Annotated[int | None, Parameter(help="At most so many images.")] = None
    dtype: Annotated[Literal["float32", "float16"], Parameter(help="Of the stored maps.")] = "float32"
    shard: Annotated[int, Parameter(help="Images per file; what a crash can lose.")] = 128


def run_method(
    model: Annotated[str, Parameter(help="An .onnx file, demo, torchvision:NAME[@WEIGHTS] or timm:NAME.")],
    /,
    *images: Annotated[str, Parameter(help="Files, folders or glob patterns.")],
    method: Method,
    out: Annotated[Path, Parameter(name=("--out", "-o"), group=OUTPUT, help="Folder of the job.")],
    target: Annotated[
        str, Parameter(help="top, a class index, a label, or a formula: logit(281) - logit(285).")
    ] = "top",
    output_options: OutputOptions = OutputOptions(),
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    compute: ComputeOptions = ComputeOptions(),  # noqa: B008
    workers: WorkerOptions = WorkerOptions(),  # noqa: B008
) -> int:
    """Explain images with one method."""
    from sightline.commands._run_job import RunJob  # what reads models, jobs and reports: --help need not wait for it
    from sightline.target import Target

    with model_options.load(model) as network:
        job = RunJob(network, method, out, Target.parse(target, network.labels), output_options, workers)
        plan = network.plan(method, **workers.plan_options(compute))
        summary = job.over_images(plan, images) if registry.declaration(method).takes_images else job.over_model(plan)
        if output_options.report:
            job.write_report(summary)
        job.tell(summary)
    if summary.stopped:
        return 130
    return 4 if summary.set_aside else 0


run = method_app("run", command_summary(__file__), __name__)


def __getattr__(name: str) -> Callable[..., int]:
    if name not in registry.entries():
        raise AttributeError(name)
    return with_flags(registry.find(name), run_method)
