from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from report.examples import everything, some_activations, some_filters, some_heatmaps, some_photos, some_predictions
from sightline.file_names import safe_name
from sightline.report import write_overlays
from sightline.report.figure import CELL, MARGIN, draw_figure, picture_top
from sightline.report.grid import GAP, LINE, columns_for, tile
from sightline.report.lettering import font, wrap
from sightline.report.panel import panels
from sightline.types import Photo


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (5, 2), (6, 3), (7, 7), (4, 9)])
def test_every_cell_lies_where_the_grid_says_and_white_between(count: int, columns: int) -> None:
    rng = np.random.default_rng(count)
    cells = [rng.integers(0, 255, (5, 9, 3), dtype=np.uint8) for _ in range(count)]
    grid = tile(cells, columns=columns)
    across = min(columns, count)
    down = -(-count // across)
    assert grid.shape == (down * 5 + (down - 1) * GAP, across * 9 + (across - 1) * GAP, 3)
    rest = np.ones(grid.shape[:2], bool)
    for n, cell in enumerate(cells):
        top, left = n // across * (5 + GAP), n % across * (9 + GAP)
        assert np.array_equal(grid[top : top + 5, left : left + 9], cell)
        rest[top : top + 5, left : left + 9] = False
    assert (grid[rest] == 255).all()


def test_labels_stand_below_their_cells_and_widen_the_pitch() -> None:
    cells = [np.full((4, 4, 3), 9, np.uint8)] * 3
    labels = ["a label wider than its cell", "", "b"]
    grid = tile(cells, labels, columns=2)
    pitch = int(np.ceil(font(11).getlength(labels[0])))
    assert grid.shape == (2 * (4 + LINE) + GAP, 2 * pitch + GAP, 3)
    assert (grid[:4, pitch + GAP : pitch + GAP + 4] == 9).all()
    assert (grid[4 : 4 + LINE, :pitch] < 200).any()
    assert (grid[4 : 4 + LINE, pitch + GAP :] == 255).all()  # an empty label
    assert (grid[4 + LINE : 4 + LINE + GAP] == 255).all()


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (16, 8), (64, 8), (96, 12), (10, 5), (7, 7), (13, 7), (256, 16)]
)
def test_the_number_of_columns_leaves_the_last_row_full(count: int, columns: int) -> None:
    assert columns_for(count) == columns


def test_text_is_wrapped_to_its_width() -> None:
    text = "the quick brown fox jumps over the lazy dog again and again " + "w" * 200
    lines = wrap(text, 150, 12)
    assert all(font(12).getlength(line) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap("", 100, 12) == []


def test_a_figure_holds_the_picture_the_bar_and_its_numbers() -> None:
    (panel,) = panels(some_heatmaps(some_photos(1)), 0)
    figure = draw_figure(panel, "A title")
    height, width = panel.pixels.shape[:2]
    top = picture_top(1)
    assert np.array_equal(figure[top : top + height, MARGIN : MARGIN + width], panel.pixels)
    bar = figure[top : top + height, MARGIN + width + 12 + 3]
    assert np.array_equal(bar[0], panel.scale.bar()[0, -1])  # the high end is at the top
    assert np.array_equal(bar[-1], panel.scale.bar()[0, 0])
    assert np.abs(bar[height // 2].astype(int) - panel.scale.bar()[0, 127]).max() <= 3
    assert (figure[:top, MARGIN:] < 100).any()
    assert (figure[top + height + 5 :] < 150).any()


def test_a_figure_of_cells_is_their_grid_enlarged_without_smoothing() -> None:
    (panel,) = panels(some_filters(5), None)
    figure = draw_figure(panel, "Kernels")
    factor = -(-CELL // 5)
    first = np.kron(panel.cells[0][0], np.ones((factor, factor, 1), np.uint8))
    top = picture_top(1)
    assert np.array_equal(figure[top : top + 5 * factor, MARGIN : MARGIN + 5 * factor], first)


def test_overlays_are_named_for_their_photos(tmp_path) -> None:
    _, results = everything(2)
    names = [[path.name for path in write_overlays(result, tmp_path / str(n))] for n, result in enumerate(results)]
    photos = ["photo_0.jpg", "photo_1.jpg"]
    stems = [safe_name(f"photo {n}.jpg") for n in range(2)]
    assert all(stem.startswith(photo + "-") for stem, photo in zip(stems, photos, strict=True))
    assert names[0] == []  # predictions have bars and no pictures
    assert names[1] == [f"{stem}.png" for stem in stems]
    assert names[3] == [f"{stem}.{part}.png" for stem in stems for part in ("mean", "strongest", "channels")]
    assert names[4] == ["FilterGrid.png"]
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "RGB"


def test_names_that_would_collide_are_told_apart(tmp_path) -> None:
    view = np.zeros((8, 8, 3), np.uint8)
    ids = [
        "a/b.jpg",
        "a_b.jpg",
        "a:b.jpg",
        "A_B.jpg",
        "../../etc/passwd",
        "con",
        ".hidden",
        "",
        "é" * 200,
        "x\x00y",
        "dup",
        "dup",
    ]
    result = some_heatmaps(tuple(Photo(name, view=view) for name in ids))
    written = write_overlays(result, tmp_path / "out")
    assert len({path.name.casefold() for path in written}) == len(ids)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert all(len(path.name.encode()) < 200 and not path.name.startswith(".") for path in written)
    assert written[1].name == "a_b.jpg.png"
    again = write_overlays(result, tmp_path / "out")
    assert again == written


def test_titles_name_the_class(tmp_path) -> None:
    photos = some_photos(1)
    plain = write_overlays(some_heatmaps(photos), tmp_path / "plain")[0].read_bytes()
    named = write_overlays(some_heatmaps(photos), tmp_path / "named", labels=("goldfish",))[0].read_bytes()
    other = write_overlays(some_heatmaps(photos), tmp_path / "other", labels=("class 0",))[0].read_bytes()
    assert named != plain
    assert other == plain


def test_maps_that_cannot_be_drawn_are_left_out(tmp_path) -> None:
    result = some_heatmaps(some_photos(3))
    result.values[1] = np.inf
    assert len(write_overlays(result, tmp_path)) == 2


def test_results_without_pictures_write_nothing(tmp_path) -> None:
    assert write_overlays(some_predictions(some_photos(2)), tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    assert len(write_overlays(some_activations(some_photos(1)), tmp_path)) == 3
