"""What every method promises, whoever wrote it."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable

import numpy as np
import pytest

import sightline
from problems import Problem, convolutional
from sightline import registry
from sightline.commands._options import ComputeOptions, ModelOptions
from sightline.commands.run import OutputOptions, run_method
from sightline.dispatch import route
from sightline.errors import UsageError
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.registry import Entry, Method, declaration
from sightline.target import Target, logit, top, unit
from sightline.types import Batch, Result

Open = Callable[..., Model]
every_method = pytest.mark.parametrize("entry", registry.entries().values(), ids=lambda entry: entry.name)
PROBLEM: Problem = convolutional("contract", shape=(3, 9, 8), pool=True)  # what any method can be run on
PIXELS = Preprocess(resize=None, crop=(9, 8), mean=(0.5,) * 3, std=(0.1,) * 3)  # 0 to 255 are -5 to 5


STEPS = 5  # of methods that go step by step: what must hold does so after any number of them


def made(entry: Entry) -> Method:
    """The method with its defaults, but few steps."""
    method = entry.load()()
    return dataclasses.replace(method, steps=STEPS) if hasattr(method, "steps") else method  # type: ignore[type-var]


def run(entry: Entry, model: Model, images: np.ndarray, target: Target = top(1), **options: int) -> Result:  # noqa: B008
    return model.plan(made(entry), **{"threads": 2, **options}).run(Batch.of(images), target)


def arrays(result: Result) -> dict[str, np.ndarray]:
    found = {field.name: getattr(result, field.name) for field in dataclasses.fields(typing.cast(typing.Any, result))}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def assert_close(ours: Result, theirs: Result, tolerance: float) -> None:
    """Every array of two results, relative to its largest value."""
    for name, expected in arrays(theirs).items():
        found = arrays(ours)[name]
        assert found.shape == expected.shape, name
        scale = max(float(np.abs(expected).max(initial=0)), 1e-12)
        assert float(np.abs(found - expected).max(initial=0)) <= tolerance * scale, name


def tolerance_of(plan_route: str) -> float:
    return route(plan_route).tolerance


@every_method
def test_it_is_a_frozen_keyword_only_dataclass(entry: Entry) -> None:
    kind = entry.load()
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))
    assert kind.__name__.lower() == entry.name.replace("_", ""), "the class is named as its file"
    assert declaration(kind).needs.__name__ == entry.needs
    assert entry.family == ("gradient" if entry.needs == "Differentiable" else "forward")
    assert getattr(sightline, entry.class_name) is kind


@every_method
def test_repr_makes_it_again(entry: Entry) -> None:
    kind = entry.load()
    method = kind()
    assert eval(repr(method), {entry.class_name: kind}) == method
    for field in dataclasses.fields(typing.cast(typing.Any, kind)):
        value = getattr(method, field.name)
        changed = value + 1 if isinstance(value, int | float) and not isinstance(value, bool) else value
        other = kind(**{field.name: changed})
        assert eval(repr(other), {entry.class_name: kind}) == other
        assert (other == method) == (changed == value)


@every_method
def test_every_field_has_a_note_and_a_flag_of_its_own(entry: Entry) -> None:
    kind = entry.load()
    notes = registry.field_notes(kind)
    fields = {field.name for field in dataclasses.fields(typing.cast(typing.Any, kind))}
    assert fields <= set(notes)
    assert all(len(notes[name]) >= 4 for name in fields), "a note says what the parameter is"
    assert not fields & common_flags()


def common_flags() -> set[str]:
    """Names that ``sightline run`` takes for every method, read from its signature."""
    found: set[str] = {"debug", "help", "version"}
    for name, parameter in inspect.signature(run_method).parameters.items():
        found.add(name)
        if dataclasses.is_dataclass(kind := type(parameter.default)):
            found |= {field.name for field in dataclasses.fields(kind)}
    assert {
        field.name for part in (OutputOptions, ModelOptions, ComputeOptions) for field in dataclasses.fields(part)
    } < found
    return found - {"method"}


@every_method
def test_its_docstring_says_what_it_returns_and_where_it_comes_from(entry: Entry) -> None:
    text = inspect.getdoc(entry.load()) or ""
    summary, _, rest = text.partition("\n")
    assert summary.endswith(".")
    assert summary.rstrip(".") == entry.summary
    assert "Returns ``" in rest
    # A paper has its year in parentheses; what is no paper's method says what it computes.
    assert any(f"({year})" in rest for year in range(1960, 2100)) or "values (B" in rest


@every_method
def test_one_row_per_photo_and_one_fact_per_row(open_problem: Open, entry: Entry) -> None:
    images = PROBLEM.images(seed=3, count=3)
    result = run(entry, open_problem(PROBLEM, preprocess=PIXELS), images)
    takes_images = declaration(made(entry)).takes_images
    if takes_images:
        assert [photo.id for photo in result.photos] == ["0", "1", "2"]
        assert len(result.values) == 3
    else:
        assert result.photos == ()
    assert result.values.dtype in (np.float32, np.int64, np.uint8)
    assert np.isfinite(result.values).all()
    for name, column in result.columns().items():
        assert len(column) == len(result.values), name
        assert all(plain(value) for value in column), name
    stamp = result.provenance
    assert stamp is not None
    assert stamp.method == repr(made(entry))
    assert stamp.target == ("top(1)" if declaration(made(entry)).takes_target else "")
    assert stamp.model.startswith("contract.onnx (")


def plain(value: object) -> bool:
    """What a table can hold: no NumPy scalars."""
    if isinstance(value, list):
        return all(plain(one) for one in value)
    return value is None or type(value) in (int, float, str, bool)


@every_method
def test_a_batch_of_n_is_n_batches_of_one(open_problem: Open, entry: Entry) -> None:
    model, images = open_problem(PROBLEM, preprocess=PIXELS), PROBLEM.images(seed=13, count=5)
    tolerance = tolerance_of(model.plan(made(entry)).route)
    whole = run(entry, model, images)
    for batch in (1, 2, 5):
        assert_close(run(entry, model, images, batch=batch), whole, tolerance)
    if declaration(made(entry)).takes_images:
        for row in range(5):
            one = run(entry, model, images[row : row + 1])
            part = {name: value[row : row + 1] for name, value in arrays(whole).items()}
            for name, value in arrays(one).items():
                np.testing.assert_allclose(value, part[name], rtol=10 * tolerance, atol=10 * tolerance)


@every_method
def test_twice_is_the_same_to_the_last_bit(open_problem: Open, entry: Entry) -> None:
    model, images = open_problem(PROBLEM, preprocess=PIXELS), PROBLEM.images(seed=7, count=3)
    first, second = run(entry, model, images, batch=2), run(entry, model, images, batch=2)
    for name, value in arrays(first).items():
        np.testing.assert_array_equal(arrays(second)[name], value)
    assert first.columns() == second.columns()


@every_method
@pytest.mark.parametrize("target", [top(1), unit("relu1", 1)], ids=repr)
@pytest.mark.parametrize("batch", ["N", 2])
def test_no_images_give_no_rows(open_problem: Open, entry: Entry, target: Target, batch: int | str) -> None:
    if not declaration(made(entry)).takes_images:
        pytest.skip("it looks at the network alone")
    model = open_problem(convolutional("contract", shape=(3, 9, 8), batch=batch, pool=True), preprocess=PIXELS)
    result = run(entry, model, np.zeros((0, *PROBLEM.shape), np.float32), target)
    some = run(entry, model, PROBLEM.images(seed=1, count=2), target)
    assert result.photos == ()
    assert result.values.shape == (0, *some.values.shape[1:])
    assert result.values.dtype == some.values.dtype
    assert {name: len(column) for name, column in result.columns().items()} == dict.fromkeys(some.columns(), 0)


@every_method
def test_the_input_is_left_as_it_was(open_problem: Open, entry: Entry) -> None:
    images = PROBLEM.images(seed=19, count=2)
    before = images.copy()
    run(entry, open_problem(PROBLEM, preprocess=PIXELS), images)
    np.testing.assert_array_equal(images, before)


@every_method
def test_a_class_that_there_is_not_is_refused(open_problem: Open, entry: Entry) -> None:
    if not declaration(made(entry)).takes_target:
        pytest.skip("it explains no target")
    model = open_problem(PROBLEM, preprocess=PIXELS)
    with pytest.raises(UsageError, match=r"99.*(4 classes|0 to 3)"):
        run(entry, model, PROBLEM.images(seed=2, count=2), logit(99))


@every_method
@pytest.mark.parametrize("level", [0.0, 5.0])
def test_images_of_one_colour_are_images(open_problem: Open, entry: Entry, level: float) -> None:
    model = open_problem(PROBLEM, preprocess=PIXELS)
    result = run(entry, model, np.full((2, *PROBLEM.shape), level, np.float32), logit(1))
    assert np.isfinite(result.values).all()
    assert all(np.isfinite(value).all() or name == "probabilities" for name, value in arrays(result).items())
