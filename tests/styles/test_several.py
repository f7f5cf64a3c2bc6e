"""Several styles in one network: conditional normalisation, its export, its mixes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from interruption import Killed, dies_after, on
from sightline.errors import BadModel, OutputConflict, UnknownName, UsageError
from sightline.graph.mix_norm import MixNorm
from sightline.image import read_image
from sightline.model import Model
from sightline.routes.base import Settings
from sightline.styles.shares import mix, parse_shares
from sightline.styles.style import STYLES, Style
from sightline.styles.stylist import MARGIN, Stylist
from sightline.styles.training.export import export_network
from sightline.styles.training.lesson import Lesson, Losses
from sightline.styles.training.network import ConditionalNorm, StyleNetwork
from sightline.styles.training.pictures import Collages
from sightline.styles.training.training import Course, train

THREADS = Settings(threads=2)
NAMES = ("brick", "coffee", "grass")


@pytest.fixture(scope="module")
def network() -> StyleNetwork:
    torch.manual_seed(4)
    made = StyleNetwork(4, 1, 3).eval()
    with torch.no_grad():
        for part in made.modules():
            if isinstance(part, ConditionalNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
        made.last.weight *= 4
    return made


@pytest.fixture(scope="module")
def folder(network: StyleNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("several")
    said = export_network(network, path / "style.onnx", 32, NAMES)
    assert "of a mix" in said
    return path


def photograph(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def of_one_style(network: StyleNetwork, shares: np.ndarray) -> StyleNetwork:
    """The plain network whose scales and shifts are means of the rows, in float64."""
    made = StyleNetwork(4, 1).eval()
    state = {
        name: torch.from_numpy(shares @ value.double().numpy()).float() if ".norm." in name else value
        for name, value in network.state_dict().items()
    }
    made.load_state_dict(state)
    return made


@pytest.mark.parametrize("seed", [1, 2])
def test_a_conditional_norm_is_the_closed_form(seed: int) -> None:
    """Pure rows, mixes for all pictures and for each, in float64; and their gradients, by finite differences."""
    rng = np.random.default_rng(seed)
    x, weight, bias = (torch.from_numpy(rng.normal(size=size)) for size in ((3, 5, 4, 6), (2, 5), (2, 5)))
    norm = ConditionalNorm(5, 2).double()
    norm.load_state_dict({"weight": weight, "bias": bias})
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    normal = centred / (centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
    each = torch.from_numpy(rng.dirichlet([1, 1], size=3))  # (3, 2)
    for shares in (torch.eye(2).double()[1], each[0]):
        scale, shift = (sum(shares[k] * table[k] for k in range(2)) for table in (weight, bias))
        expected = normal * scale.view(1, 5, 1, 1) + shift.view(1, 5, 1, 1)  # type: ignore[union-attr]
        torch.testing.assert_close(norm(x, shares), expected)
    rows = torch.cat([norm(x[row : row + 1], each[row]) for row in range(3)])
    torch.testing.assert_close(norm(x, each), rows)
    plain = torch.nn.InstanceNorm2d(5, affine=True).double()
    plain.load_state_dict({"weight": weight[0], "bias": bias[0]})
    torch.testing.assert_close(norm(x, torch.eye(2).double()[0]), plain(x))

    def of_tables(scales: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(norm, {"weight": scales, "bias": shifts}, (x, each))

    assert torch.autograd.gradcheck(of_tables, (weight.requires_grad_(), bias.requires_grad_()))


def test_a_pure_row_leaves_the_other_styles_untaught() -> None:
    norm = ConditionalNorm(3, 2)
    norm(torch.rand(2, 3, 4, 4), torch.eye(2)[[1, 1]]).square().sum().backward()
    for table in (norm.weight, norm.bias):
        assert table.grad is not None
        assert table.grad[0].abs().max() == 0
        assert table.grad[1].abs().min() > 0


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 0, 1), (0.2, 0.5, 0.3)])
def test_the_file_computes_what_torch_does_fed_or_baked(
    network: StyleNetwork, folder: Path, shares: tuple[float, ...]
) -> None:
    given = np.array(shares, np.float32)
    image = np.random.default_rng(5).random((2, 3, 36, 52), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image), torch.from_numpy(given)).numpy()
        alone = of_one_style(network, given.astype(np.float64))(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    session = onnxruntime.InferenceSession(folder / "style.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["input", "shares"]
    (fed,) = session.run(None, {"input": image, "shares": given})
    np.testing.assert_allclose(fed, expected, atol=1e-5)
    style = Style.read(str(folder))
    baked = MixNorm(given)(style.graph)
    assert [str(value.name) for value in baked.graph.inputs] == ["input"]
    assert "MatMul" not in {node.op_type for node in baked.graph}
    assert "MatMul" in {node.op_type for node in style.graph.graph}  # the graph that came in is as it was
    stored = sum(value.const_value.size for value in baked.graph.initializers.values() if value.const_value)
    parameters = sum(value.numel() for value in of_one_style(network, given.astype(np.float64)).parameters())
    assert stored == parameters  # nothing of the other styles is carried along


def test_a_mix_is_painted_whole_and_in_tiles(network: StyleNetwork, folder: Path) -> None:
    style, picture = Style.read(str(folder)), photograph(1, 40, 64)
    assert style.names == NAMES
    stylist = Stylist(style, THREADS, shares={"coffee": 3, "grass": 1})
    wide = np.pad(picture, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="symmetric").astype(np.float32) / 255
    with torch.no_grad():
        expected = network(torch.from_numpy(wide).permute(2, 0, 1)[None], torch.tensor([0, 0.75, 0.25]))
    inner = 255 * expected[0].permute(1, 2, 0).numpy()[MARGIN:-MARGIN, MARGIN:-MARGIN]
    (found,) = stylist.paint([picture])
    assert np.abs(found - inner).max() <= 0.51
    (first,), (named,) = (Stylist(style, THREADS, shares=shares).paint([picture]) for shares in (None, {"brick": 2}))
    np.testing.assert_array_equal(first, named)
    assert np.abs(first.astype(int) - found).mean() > 1
    large = photograph(2, 210, 305)
    tiled, single = (
        Stylist(style, THREADS, tile, {"coffee": 3, "grass": 1}).paint_tiled(large) for tile in (100, 1000)
    )
    assert np.abs(tiled.astype(int) - single).max() <= 1


def test_shares_are_taken_in_proportion_and_mistakes_are_told(folder: Path) -> None:
    np.testing.assert_allclose(mix(NAMES, {"grass": 1, "brick": 3}), [0.75, 0, 0.25])
    np.testing.assert_array_equal(mix(NAMES, None), [1, 0, 0])
    assert parse_shares(" a=0.25, b.c=1e1") == {"a": 0.25, "b.c": 10.0}
    with pytest.raises(UnknownName, match="Did you mean 'coffee'"):
        mix(NAMES, {"cofee": 1})
    for share in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=rf"share {share} of style 'grass'"):
            mix(NAMES, {"brick": 1, "grass": share})
    with pytest.raises(UsageError, match="above 0"):
        mix(NAMES, {"brick": 0.0})
    with pytest.raises(UsageError, match="above 0"):
        mix(NAMES, {})
    for text in ("brick", "brick=", "=1", "brick=a,coffee=1", "", "brick=1,,coffee=1"):
        with pytest.raises(UsageError, match="NAME=NUMBER"):
            parse_shares(text)
    with pytest.raises(UsageError, match="twice"):
        parse_shares("a=1,a=2")
    with pytest.raises(UsageError, match="holds one style"):
        Stylist(Style.read("demo"), shares={"brick": 1})
    with pytest.raises(UsageError, match="holds one style"):
        Style.read("demo").require("brick")
    with pytest.raises(UnknownName):
        Style.read(str(folder)).require("brik")


def test_a_file_whose_styles_are_not_named_is_refused(folder: Path, tmp_path: Path) -> None:
    for names in (None, '["one"]', '["a", "a", "b"]', "nothing", "3"):
        file = onnx.load(folder / "style.onnx")
        del file.metadata_props[:]
        if names is not None:
            file.metadata_props.add(key=STYLES, value=names)
        onnx.save(file, tmp_path / "style.onnx")
        with pytest.raises(BadModel, match="takes shares of shape"):
            Style.read(str(tmp_path))


LESSON = Lesson(
    width=2, blocks=1, crop=16, batch=2, steps=7, style_layers=("relu1",), content_layers=("relu2",), seed=5
)


def course(folder: Path, names: tuple[str, ...] = NAMES) -> Course:
    rng = np.random.default_rng(1)
    styles = {name: rng.uniform(0, 255, (20 + place, 24, 3)).astype(np.float32) for place, name in enumerate(NAMES)}
    return Course(
        folder=folder, styles={name: styles[name] for name in names}, pictures=Collages(8), every=2, threads=2
    )


def test_resumed_losses_of_several_styles_are_those_of_an_uninterrupted_run(judge: Model, tmp_path: Path) -> None:
    """Three styles and two rows per step, so that the turn of styles goes over checkpoints."""
    assert train(judge, LESSON, course(tmp_path / "whole"), on, resume=False)
    whole = (tmp_path / "whole" / "losses.csv").read_text()

    with pytest.raises(Killed):
        train(judge, LESSON, course(tmp_path / "parts"), dies_after(3), resume=False)
    assert not (tmp_path / "parts" / ".lock").exists()
    assert train(judge, LESSON, course(tmp_path / "parts"), on, resume=True)
    assert (tmp_path / "parts" / "losses.csv").read_text() == whole
    assert (tmp_path / "parts" / "style.onnx").read_bytes() == (tmp_path / "whole" / "style.onnx").read_bytes()

    head, *lines = whole.splitlines()
    assert head == (
        "step,style,content,variation,style brick,content brick,style coffee,content coffee,style grass,content grass"
    )
    turn = [(0, 1), (2, 0), (1, 2), (0, 1), (2, 0), (1, 2), (0, 1)]
    for line, worn in zip(lines, turn, strict=True):
        cells = line.split(",")
        given = [place for place in range(3) if cells[4 + 2 * place]]
        assert given == sorted(worn)
        for mean, first in ((1, 4), (2, 5)):
            parts = [float(cells[first + 2 * place]) for place in worn]
            assert float(cells[mean]) == pytest.approx(sum(parts) / 2, rel=1e-6)

    style = Style.read(str(tmp_path / "parts"))
    assert style.names == NAMES
    assert style.card is not None
    assert [one.name for one in style.card.styles] == list(NAMES)
    seen = [float(line.split(",")[6]) for line in lines if line.split(",")[6]]
    assert style.card.styles[1].style_loss == pytest.approx(np.mean(seen), rel=1e-6)
    assert style.picture == tmp_path / "parts" / "styles" / "brick.png"
    assert read_image(tmp_path / "parts" / "styles" / "grass.png").size == (24, 22)
    assert read_image(tmp_path / "parts" / "validation" / "step_000007.png").size == (3 * 16, 4 * 16)
    assert read_image(tmp_path / "parts" / "losses.png").size[0] > 100


def test_each_style_is_learnt(judge: Model, tmp_path: Path) -> None:
    found = list[Losses]()

    def note(done: int, total: int, losses: Losses) -> bool:
        found.append(losses)
        return True

    lesson = Lesson(**{**vars(LESSON), "steps": 60, "content_weight": 0.0, "rate": 1e-2})
    train(judge, lesson, course(tmp_path / "style", NAMES[:2]), note, resume=False)
    for name in NAMES[:2]:
        assert np.mean([one.by_style[name][0] for one in found[-5:]]) < 0.6 * found[0].by_style[name][0]


def test_what_is_trained_says_its_styles(judge: Model, tmp_path: Path) -> None:
    stop = lambda done, total, losses: False  # noqa: E731
    train(judge, LESSON, course(tmp_path / "style"), stop, resume=False)
    with pytest.raises(OutputConflict, match=r"style was 'brick, coffee, grass', not 'brick, coffee'"):
        train(judge, LESSON, course(tmp_path / "style", NAMES[:2]), stop, resume=True)
    short = Lesson(**{**vars(LESSON), "steps": 1})
    with pytest.raises(UsageError, match=r"steps=1 of batch=2 paint fewer pictures than there are styles \(3\)"):
        train(judge, short, course(tmp_path / "short"), stop, resume=False)
    assert not (tmp_path / "short").exists()


def test_one_style_is_kept_as_it_always_was(judge: Model, tmp_path: Path) -> None:
    train(judge, LESSON, course(tmp_path / "one", ("brick",)), on, resume=False)
    assert set(json.loads((tmp_path / "one" / "style.json").read_text())) == {
        "style", "model", "steps", "style_weight", "content_weight", "style_loss", "content_loss", "parity",
    }  # fmt: skip
    assert (tmp_path / "one" / "losses.csv").read_text().startswith("step,style,content,variation\n0,")
    style = Style.read(str(tmp_path / "one"))
    assert style.picture == tmp_path / "one" / "style.png"
    assert style.names == ()
    held = torch.load(tmp_path / "one" / "checkpoint.pt", weights_only=True)["network"]
    assert held["first.norm.weight"].shape == (2,)
    assert held["blocks.0.layer.norm.bias"].shape == (8,)
