"""Training that is interrupted takes the steps of one that is not."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from interruption import Killed, dies_after, on
from sightline.errors import NoImages, OutputConflict, UsageError
from sightline.image import read_image
from sightline.job.lock import OutputBusy
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.styles.style import Style
from sightline.styles.training import training
from sightline.styles.training.collage import collage
from sightline.styles.training.lesson import Lesson, Losses
from sightline.styles.training.pictures import Collages, Files, draw_batch
from sightline.styles.training.training import Course, seen, train

Open = Callable[..., Model]
LESSON = Lesson(
    width=2, blocks=1, crop=16, batch=2, steps=6, style_layers=("relu1",), content_layers=("relu2",), seed=5
)


def course(folder: Path) -> Course:
    picture = np.random.default_rng(1).uniform(0, 255, (20, 24, 3)).astype(np.float32)
    return Course(folder=folder, styles={"noise": picture}, pictures=Collages(8), every=2, threads=2)


def test_resumed_losses_are_those_of_an_uninterrupted_run(judge: Model, tmp_path: Path) -> None:
    assert train(judge, LESSON, course(tmp_path / "whole"), on, resume=False)
    whole = (tmp_path / "whole" / "losses.csv").read_text()

    parts = course(tmp_path / "parts")
    with pytest.raises(Killed):
        train(judge, LESSON, parts, dies_after(3), resume=False)
    assert len((tmp_path / "parts" / "losses.csv").read_text().splitlines()) == 1 + 2
    assert not train(judge, LESSON, parts, lambda done, total, losses: done < 5, resume=True)
    assert train(judge, LESSON, parts, on, resume=True)
    assert (tmp_path / "parts" / "losses.csv").read_text() == whole
    assert whole.count("\n") == 1 + LESSON.steps
    card = Style.read(str(tmp_path / "parts")).card
    assert card is not None
    assert card.steps == LESSON.steps
    assert (tmp_path / "parts" / "style.onnx").read_bytes() == (tmp_path / "whole" / "style.onnx").read_bytes()
    assert read_image(tmp_path / "parts" / "validation" / "step_000006.png").size == (3 * 16, 2 * 16)
    assert read_image(tmp_path / "parts" / "losses.png").size[0] > 100


def test_the_loss_that_is_weighted_falls(judge: Model, tmp_path: Path) -> None:
    found = list[Losses]()

    def note(done: int, total: int, losses: Losses) -> bool:
        found.append(losses)
        return True

    for aimed, left in (("style", "content"), ("content", "style")):
        found.clear()
        lesson = Lesson(**{**vars(LESSON), "steps": 40, f"{left}_weight": 0.0, "rate": 1e-2})
        train(judge, lesson, course(tmp_path / aimed), note, resume=False)
        assert np.mean([getattr(one, aimed) for one in found[-5:]]) < 0.6 * getattr(found[0], aimed)


def test_a_folder_holds_one_training(judge: Model, tmp_path: Path) -> None:
    stop = lambda done, total, losses: False  # noqa: E731
    train(judge, LESSON, course(tmp_path / "style"), stop, resume=False)
    with pytest.raises(OutputConflict, match="Give --resume"):
        train(judge, LESSON, course(tmp_path / "style"), stop, resume=False)
    other = Lesson(**{**vars(LESSON), "rate": 0.5})
    with pytest.raises(OutputConflict, match=r"rate was 0\.002, not 0\.5"):
        train(judge, other, course(tmp_path / "style"), stop, resume=True)
    (tmp_path / "style" / "training.json").unlink()
    with pytest.raises(OutputConflict, match="holds no training"):
        train(judge, LESSON, course(tmp_path / "style"), stop, resume=True)


def test_two_trainings_do_not_share_a_folder(judge: Model, tmp_path: Path) -> None:
    """Not even before the first checkpoint; a lock that a killed training left holds nobody."""

    def second(done: int, total: int, losses: Losses) -> bool:
        with pytest.raises(OutputBusy, match=rf"process {os.getpid()} on {re.escape(socket.gethostname())}"):
            train(judge, LESSON, course(tmp_path / "style"), on, resume=False)
        return False

    (tmp_path / "style").mkdir()
    (tmp_path / "style" / ".lock").write_text('{"pid": 1, "host": "elsewhere"}')
    assert not train(judge, LESSON, course(tmp_path / "style"), second, resume=False)
    assert train(judge, LESSON, course(tmp_path / "style"), on, resume=True)
    assert not (tmp_path / "style" / ".lock").exists()


def test_losses_that_are_no_numbers_end_it_with_the_checkpoint_kept(
    judge: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(judge, LESSON, course(tmp_path / "style"), lambda done, total, losses: done < 2, resume=False)
    kept = (tmp_path / "style" / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(training, "draw_batch", lambda *_, **__: np.full((2, 3, 16, 16), np.nan, np.float32))
    with pytest.raises(UsageError, match="diverged at step 2"):
        train(judge, LESSON, course(tmp_path / "style"), on, resume=True)
    assert (tmp_path / "style" / "checkpoint.pt").read_bytes() == kept


def test_batches_depend_on_seed_and_step_and_fit_any_picture(tmp_path: Path) -> None:
    for name, size in {"small.png": (5, 9), "wide.png": (400, 20), "one.png": (1, 1)}.items():
        Image.fromarray(np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    files = Files(sorted(tmp_path.iterdir()))
    one, again, later = (draw_batch(files, count=6, crop=32, seed=1, step=step) for step in (4, 4, 5))
    assert one.shape == (6, 3, 32, 32)
    assert 0 <= one.min() < one.max() <= 1
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - later).max() > 0.1
    with pytest.raises(NoImages, match="None of the 1"):
        draw_batch(Files([tmp_path / "broken.png"]), count=1, crop=32, seed=1, step=0)
    with pytest.raises(UsageError, match="multiple of 4"):
        draw_batch(files, count=1, crop=30, seed=1, step=0)


def test_the_judge_sees_what_its_preprocessing_makes() -> None:
    import torch

    picture = collage(3, 4, 24)
    pixels = torch.from_numpy(np.moveaxis(picture, -1, 0)[None].astype(np.float32) / 255)
    for channels, mean in (("RGB", (0.4, 0.5, 0.6)), ("BGR", (0.4, 0.5, 0.6))):
        preprocess = Preprocess(resize=None, crop=None, mean=mean, std=(0.2, 0.3, 0.4), channels=channels)  # type: ignore[arg-type]
        np.testing.assert_allclose(seen(pixels, preprocess)[0], preprocess.normalise(picture), atol=1e-5)


@pytest.mark.parametrize("changed", [{"crop": 30}, {"steps": 0}, {"rate": 0.0}, {"style_weight": -1.0}])
def test_lessons_that_cannot_be_learnt(changed: dict[str, float]) -> None:
    (name,) = changed
    with pytest.raises(UsageError, match=f"{name}="):
        Lesson(**changed).check()  # type: ignore[arg-type]


def test_collages_differ_and_repeat() -> None:
    np.testing.assert_array_equal(collage(1, 2, 48), collage(1, 2, 48))
    assert np.abs(collage(1, 2, 48).astype(int) - collage(1, 3, 48)).mean() > 5
    assert json.dumps(collage(1, 2, 48).shape) == "[48, 48, 3]"


def test_what_ended_before_its_first_checkpoint_does_not_hold_the_folder(judge: Model, tmp_path: Path) -> None:
    folder = tmp_path / "style"
    with pytest.raises(UsageError, match="nowhere"):
        train(judge, Lesson(**{**vars(LESSON), "style_layers": ("nowhere",)}), course(folder), on, resume=False)
    assert not folder.exists()
    wild = Lesson(**{**vars(LESSON), "rate": 1e30})
    with pytest.raises(UsageError, match=r"diverged at step 1.*No checkpoint had been written"):
        train(judge, wild, course(folder), on, resume=False)
    assert train(judge, LESSON, course(folder), on, resume=False)
