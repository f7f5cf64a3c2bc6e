"""What the sections measure, against numbers derived here."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from sightline.audit.clusters import clusters, small, suspicious
from sightline.audit.corruptions import CORRUPTIONS, corrupted
from sightline.audit.faithfulness import area, curves, infidelity, max_sensitivity, sensitivity_n, squares
from sightline.audit.maps import centres, likeness
from sightline.audit.sections.parity import calibration_error, class_order, shows_order, usual_preprocessings
from sightline.audit.sections.shortcuts import masses
from sightline.demo.dataset import batch
from sightline.preprocess import PRESETS


@pytest.mark.parametrize("seed", [1, 2])
def test_curves_of_a_linear_score(seed: int) -> None:
    """Of a sum of pixels, deleting the largest first takes away sorted partial sums."""
    draw = np.random.default_rng(seed)
    image = draw.uniform(0, 1, (1, 5, 7)).astype(np.float32)

    def total(images: np.ndarray) -> np.ndarray:
        return images.sum(axis=(1, 2, 3)) / image.sum()

    found = curves(total, image, image[0], np.zeros_like(image), steps=35)
    ordered = np.sort(image.ravel())[::-1] / image.sum()
    shown = np.concatenate([[0], np.cumsum(ordered)])
    np.testing.assert_allclose(found.insertion, shown, atol=1e-6)
    np.testing.assert_allclose(found.deletion, 1 - shown, atol=1e-6)
    assert found.insertion_area == pytest.approx(float(np.trapezoid(shown, dx=1 / 35)), abs=1e-6)
    assert found.deletion_area == pytest.approx(1 - found.insertion_area, abs=1e-6)
    backwards = curves(total, image, -image[0], np.zeros_like(image), steps=35)
    assert backwards.insertion_area < found.insertion_area
    assert area(np.float32([0, 1])) == 0.5


def test_infidelity_of_the_true_gradient_of_a_linear_score_is_nothing() -> None:
    draw = np.random.default_rng(3)
    weights, image = draw.normal(size=(3, 4, 4)).astype(np.float32), draw.normal(size=(3, 4, 4)).astype(np.float32)
    changes = draw.normal(size=(50, 3, 4, 4)).astype(np.float32)

    def score(images: np.ndarray) -> np.ndarray:
        return (images * weights).sum(axis=(1, 2, 3))

    fell = (changes * weights).sum(axis=(1, 2, 3))
    assert infidelity(score, image, weights, changes) < 1e-8
    assert infidelity(score, image, 3 * weights, changes) < 1e-8  # up to the scale
    other = draw.normal(size=(3, 4, 4)).astype(np.float32)
    said = (changes * other).sum(axis=(1, 2, 3))
    factor = (said * fell).mean() / (said**2).mean()
    assert infidelity(score, image, other, changes) == pytest.approx(
        float(((factor * said - fell) ** 2).mean()), rel=1e-4
    )


def test_infidelity_agrees_with_captum_on_the_same_changes() -> None:
    metrics = pytest.importorskip("captum.metrics", reason="Captum is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    draw = np.random.default_rng(4)
    image = draw.normal(size=(3, 4, 4)).astype(np.float32)
    attribution, changes = (draw.normal(size=size).astype(np.float32) for size in ((3, 4, 4), (16, 3, 4, 4)))

    def score(images: np.ndarray) -> np.ndarray:
        return np.tanh(images).sum(axis=(1, 2, 3))

    def forward(images):  # type: ignore[no-untyped-def]
        return torch.tanh(images).sum(dim=(1, 2, 3))

    def perturb(inputs, baselines=None):  # type: ignore[no-untyped-def]
        moved = torch.from_numpy(changes)
        return moved, inputs - moved

    theirs = metrics.infidelity(
        forward, perturb, torch.from_numpy(image)[None], torch.from_numpy(attribution)[None],
        n_perturb_samples=16, normalize=True,
    )  # fmt: skip
    assert infidelity(score, image, attribution, changes) == pytest.approx(float(theirs), rel=1e-4)


def test_sensitivity_of_a_linear_map_is_that_of_its_input() -> None:
    image = np.full((1, 6, 6), 2.0, np.float32)
    found = max_sensitivity(lambda images: images[:, 0], image, radius=0.1, count=20, seed=5)
    random = np.random.default_rng(5).uniform(-0.1, 0.1, (20, 1, 6, 6)).astype(np.float32)
    assert found == pytest.approx(float(np.linalg.norm(random, axis=(2, 3)).max()) / 12, rel=1e-4)


def test_sensitivity_agrees_with_captum_on_the_same_draws() -> None:
    metrics = pytest.importorskip("captum.metrics", reason="Captum is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    image = np.random.default_rng(6).normal(size=(1, 5, 7)).astype(np.float32)
    noise = np.random.default_rng(8).uniform(-0.1, 0.1, (9, 1, 5, 7)).astype(np.float32)

    def explained(inputs):  # type: ignore[no-untyped-def]
        return (torch.sin(3 * inputs[0]),)  # a tuple in, a tuple out: it broadcasts anything else

    theirs = metrics.sensitivity_max(
        explained, torch.from_numpy(image)[None], lambda _: (torch.from_numpy(image + noise),),
        n_perturb_samples=9, norm_ord="fro",
    )  # fmt: skip
    ours = max_sensitivity(lambda images: np.sin(3 * images)[:, 0], image, radius=0.1, count=9, seed=8)
    assert ours == pytest.approx(float(theirs), rel=1e-4)


def test_hidden_parts_of_a_linear_score_fall_as_its_map_says() -> None:
    draw = np.random.default_rng(11)
    image, fill = draw.normal(size=(2, 12, 9)).astype(np.float32), draw.normal(size=(2, 12, 9)).astype(np.float32)
    parts = squares(12, 9, 40, seed=3)
    assert parts.shape == (40, 12, 9)
    assert parts.sum(axis=(1, 2)).min() >= 1

    def total(images: np.ndarray) -> np.ndarray:
        return images.sum(axis=(1, 2, 3))

    exact = (image - fill).sum(axis=0)
    assert sensitivity_n(total, image, exact, fill, parts) == pytest.approx(1, abs=1e-5)
    assert sensitivity_n(total, image, -2 * exact, fill, parts) == pytest.approx(-1, abs=1e-5)
    assert sensitivity_n(total, image, np.zeros_like(exact), fill, parts) == 0
    other = draw.normal(size=exact.shape).astype(np.float32)
    expected = np.corrcoef((parts * other).sum(axis=(1, 2)), (parts * exact).sum(axis=(1, 2)))[0, 1]
    assert sensitivity_n(total, image, other, fill, parts) == pytest.approx(expected, abs=1e-5)


def test_likeness_and_centres() -> None:
    maps = np.zeros((2, 9, 11), np.float32)
    maps[0, 2, 3], maps[1, 6, 8] = 1, 1
    np.testing.assert_allclose(centres(maps), [[2, 3], [6, 8]])
    np.testing.assert_allclose(centres(-maps), [[4, 5], [4, 5]])  # nothing speaks for it
    found = likeness(maps, maps[::-1].copy())
    np.testing.assert_allclose(found.shift, np.hypot(4, 5) / np.hypot(9, 11), rtol=1e-6)
    same = likeness(maps, maps)
    np.testing.assert_allclose((same.spearman, same.ssim, same.top5, same.shift), [[1, 1]] * 3 + [[0, 0]], atol=1e-6)


def test_masses_at_the_border() -> None:
    maps = np.zeros((3, 10, 20), np.float32)
    maps[0, 0, 0] = maps[0, 5, 10] = 1  # a corner and the middle
    maps[1, 9, 7] = 2  # below, no corner
    maps[2] = -1
    border, corner = masses(maps, 0.1)
    np.testing.assert_allclose(border, [0.5, 1, 0])
    np.testing.assert_allclose(corner, [0.5, 0, 0])


def test_calibration_error_by_hand() -> None:
    confidence = np.float32([0.95, 0.85, 0.83, 0.2])
    right = np.array([True, True, False, False])
    expected = (abs(0.95 - 1) + 2 * abs(0.84 - 0.5) + abs(0.2 - 0)) / 4
    assert calibration_error(confidence, right) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severities_hit_harder_and_harder(kind: str) -> None:
    pictures = batch(9, range(4)).images
    apart = []
    for severity in range(1, 6):
        hit = [corrupted(one, kind, severity, seed=row) for row, one in enumerate(pictures)]
        assert all(
            one.shape == other.shape and one.dtype == np.uint8 for one, other in zip(hit, pictures, strict=True)
        )
        assert np.array_equal(hit[0], corrupted(pictures[0], kind, severity, seed=0))
        apart.append(np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(hit, pictures, strict=True)]))
    assert (np.diff(apart) > 0).all()
    mild = structural_similarity(corrupted(pictures[0], kind, 1, 0), pictures[0], channel_axis=2)
    hard = structural_similarity(corrupted(pictures[0], kind, 5, 0), pictures[0], channel_axis=2)
    assert hard < mild


def test_odd_sizes_are_corrupted_too() -> None:
    tiny = np.random.default_rng(0).integers(0, 256, (5, 13, 3), dtype=np.uint8)
    for kind in CORRUPTIONS:
        assert corrupted(tiny, kind, 5, seed=1).shape == tiny.shape


def blobs(places: list[tuple[int, int]], seed: int) -> np.ndarray:
    """(B, 48, 48) a bump at each place, and noise."""
    draw = np.random.default_rng(seed)
    rows, columns = np.indices((48, 48))
    return np.stack([
        np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 40) + draw.normal(0, 0.02, (48, 48)) for y, x in places
    ]).astype(np.float32)  # fmt: skip


def test_a_mark_in_a_corner_is_a_suspicious_cluster_and_objects_are_not() -> None:
    draw = np.random.default_rng(6)
    objects = [(int(y), int(x)) for y, x in draw.integers(8, 40, (30, 2))]
    (marked,) = clusters(blobs([(3, 44)] * 10, seed=1))
    assert suspicious(marked, small(blobs(objects, seed=2)))
    assert marked.cell == (0, 7)
    assert not suspicious(
        marked, small(blobs([(3, 44)] * 30, seed=3))
    )  # everything points there: nothing of the class
    assert not any(suspicious(one, small(blobs(objects, seed=4))) for one in clusters(blobs(objects[:12], seed=5)))
    (central,) = clusters(blobs([(24, 24)] * 8, seed=7))
    assert not suspicious(central, small(blobs(objects, seed=8)))


def test_two_ways_of_looking_are_two_clusters() -> None:
    found = clusters(blobs([(4, 4)] * 8 + [(30, 36)] * 9, seed=9))
    assert [len(one.rows) for one in found] == [9, 8]
    assert set(found[1].rows) == set(range(8))
    assert clusters(blobs([(4, 4)] * 3, seed=1)) == []


def test_a_swap_of_the_first_kernels_is_undone_by_a_usual_preprocessing() -> None:
    """Kernels (B, G, R) want the image's planes in the other order, each normalised as before."""
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    usual = PRESETS["imagenet"].changed(resize=(32, 32), crop=None)
    wanted = usual(image)[1][::-1]
    names = [name for name, other in usual_preprocessings(usual) if np.allclose(other(image)[1], wanted, atol=1e-6)]
    assert names == ["colours in the order BGR, each with its own mean and std"]


@pytest.mark.parametrize("photographs", [4, 6, 24])
@pytest.mark.parametrize("classes", [10, 1000])
def test_another_order_of_classes_is_told_from_another_network(photographs: int, classes: int) -> None:
    """Six numbers of each of a thousand classes can be sorted alike, whatever networks they are of."""
    draw = np.random.default_rng(photographs + classes)
    ours, others = draw.normal(size=(2, photographs, classes))
    order = draw.permutation(classes)
    moved = ours[:, np.argsort(order)] + draw.normal(0, 1e-4, ours.shape)  # at place order[n] what is class n's
    np.testing.assert_array_equal(class_order(ours, moved), order)
    assert shows_order(ours, moved)
    assert not shows_order(ours, others)
    biases = 10 * draw.normal(size=(2, 1, classes))  # which classes a network prefers, whatever it is shown
    assert shows_order(ours + biases[0], moved + biases[0][:, np.argsort(order)])
    assert not shows_order(ours + biases[0], others + biases[1])
    if classes == 1000:
        sorted_alike = np.linalg.norm((others + biases[1])[:, class_order(ours + biases[0], others + biases[1])]
                                      - ours - biases[0]) / np.linalg.norm(ours + biases[0])  # fmt: skip
        assert sorted_alike < 0.25, "close, yet no evidence"
