"""What a bank answers: neighbours, agreement with labels, near duplicates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sightline.bank.agreement import label_agreement
from sightline.bank.bank import Bank
from sightline.bank.duplicates import clusters, near_duplicates
from sightline.bank.labels import labels_of
from sightline.bank.search import nearest_others
from sightline.bank.writing import bank_of
from sightline.cli import call
from sightline.errors import UsageError


@pytest.fixture
def rows() -> np.ndarray:
    """Three groups of ten far apart, each within 0.1 of its centre."""
    draw = np.random.default_rng(7)
    centres = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]], np.float32)
    inside = draw.uniform(-0.05, 0.05, (30, 3)).astype(np.float32)
    return centres.repeat(10, axis=0) + inside


@pytest.fixture
def bank(rows: np.ndarray, tmp_path: Path) -> Bank:
    return bank_of(tmp_path / "bank", rows, ids=tuple(f"{n // 10}_{n}" for n in range(30)))


def test_neighbours_of_groups_share_their_label(bank: Bank) -> None:
    labels = tuple(str(n // 10) for n in range(30))
    found = label_agreement(bank, bank.space(), labels, k=5, metric="l2")
    assert (found.purity, found.majority, found.images, found.k) == (1.0, 1.0, 30, 5)
    assert found.chance == pytest.approx(9 / 29)
    crossed = tuple("ab"[n % 2] for n in range(30))
    assert label_agreement(bank, bank.space(), crossed, k=9, metric="l2").purity == pytest.approx(4 / 9)


def test_labels_that_nobody_shares_are_refused(bank: Bank) -> None:
    with pytest.raises(UsageError, match=r"No two images share a label \('0_0', …\)"):
        label_agreement(bank, bank.space(), bank.ids, k=3, metric="l2")


def test_one_label_for_all_is_refused(bank: Bank) -> None:
    with pytest.raises(UsageError, match=r"All 30 images bear the label 'flat'.*at least two labels"):
        label_agreement(bank, bank.space(), ("flat",) * 30, k=3, metric="l2")


def test_near_duplicates_are_those_of_all_pairs(bank: Bank, rows: np.ndarray) -> None:
    apart = np.linalg.norm(rows[:, None].astype(np.float64) - rows[None], axis=2)
    threshold = 0.05
    expected = {(a, b) for a, b in np.argwhere(apart <= threshold) if a < b}
    found = near_duplicates(bank, bank.space(), threshold, metric="l2")
    assert {(pair.one, pair.other) for pair in found} == expected
    assert [pair.distance for pair in found] == sorted(pair.distance for pair in found)
    groups = clusters(near_duplicates(bank, bank.space(), 1.0, metric="l2"))
    assert [sorted(group) for group in groups] == [list(range(k, k + 10)) for k in (0, 10, 20)]


def test_search_by_id_against_brute_force(bank: Bank, rows: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["search", str(bank.folder), "1_13", "-k", "4", "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    apart = np.linalg.norm(rows.astype(np.float64) - rows[13], axis=1)
    order = np.argsort(apart, kind="stable")[:4]
    assert [one["row"] for one in query["neighbours"]["features"]] == order.tolist()
    found = [one["score"] for one in query["neighbours"]["features"]]
    np.testing.assert_allclose(found, apart[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "Say what to look for"),
        (["1_13", "--threads", "0"], r'"0" for --threads. It must be at least 1'),
        (["1_13", "-k", "0"], "-k 0 must be between 1 and 1024"),
        (["nothing.jpg"], "made from features"),
        (["--duplicates", "1", "--metric", "inner_product"], "needs a distance"),
        (["1_13", "--space", "pixel"], "No space is named 'pixel'"),
    ],
)
def test_questions_that_cannot_be_answered(
    bank: Bank, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["search", str(bank.folder), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_flood_of_duplicates_is_cut_as_text_and_whole_as_json(
    bank: Bank, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["search", str(bank.folder), "--duplicates", "100"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("435 pairs")  # 30 x 29 / 2
    assert said[-1] == "  and 335 more; --json lists them all"
    assert len(said) == 102
    assert call(["search", str(bank.folder), "--duplicates", "100", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["near_duplicates"]["pairs"]) == 435


def test_labels_by_rule(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("id,label\na,cat\nb,007\n")
    assert labels_of(str(table), ["b", "a"], ["", ""]) == ("007", "cat")
    assert labels_of("folder", ["x/1.png"], ["/data/dogs/1.png"]) == ("dogs",)
    with pytest.raises(UsageError, match="1 of 2 images no label, 'c' among them"):
        labels_of(str(table), ["a", "c"], ["", ""])
    with pytest.raises(UsageError, match="cannot be read"):
        labels_of("absent.csv", ["a"], [""])


SEARCH_WITHIN = """
import resource, sys
import numpy as np
from sightline.bank.bank import open_bank
from sightline.bank.search import nearest

bank, room = open_bank(sys.argv[1]), int(sys.argv[2])
few = np.zeros((8, bank.space().features), np.float16)
nearest(few, [few], k=1, threads=2)  # compiled, and the threads' stacks are there
with open("/proc/self/status") as file:
    there = next(int(line.split()[1]) for line in file if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (there + room, there + room))
queries = np.random.default_rng(1).standard_normal((3, bank.space().features)).astype(np.float32)
found = nearest(queries, bank.blocks(bank.space()), k=4, threads=2)
np.save(sys.argv[3], found.rows)
try:
    list(bank.blocks(bank.space()))
except OSError:
    print("all of it does not fit")
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_neighbours_among_themselves_leave_the_row_itself_out(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(30, 5)).astype(np.float32)
    distances = np.square(rows[:, None] - rows[None]).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(
        nearest_others([rows[:7], rows[7:]], k=4, threads=2).rows, np.argsort(distances, axis=1)[:, :4]
    )
    twins = np.repeat(rows[:2], 10, axis=0)  # each is as near to nine others as to itself
    found = nearest_others([twins], k=4).rows
    assert (found != np.arange(20)[:, None]).all()
    assert ((found < 10) == (np.arange(20) < 10)[:, None]).all()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the size of a process")
def test_a_bank_larger_than_the_memory_that_is_allowed(tmp_path: Path) -> None:
    """Seven files of 64 MB, of which three fit at a time."""
    rows = np.random.default_rng(0).standard_normal((7 << 15, 1024), dtype=np.float32).astype(np.float16)
    bank = bank_of(tmp_path / "bank", rows)
    assert len(bank.blocks(bank.space())) >= 7
    command = [sys.executable, "-c", SEARCH_WITHIN, str(bank.folder), str(300 << 20), str(tmp_path / "found.npy")]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "all of it does not fit" in said.stdout
    queries = np.random.default_rng(1).standard_normal((3, 1024)).astype(np.float32)
    distances = np.stack([
        np.concatenate([((part - one) ** 2).sum(axis=1) for part in np.array_split(rows, 16)]) for one in queries
    ])  # fmt: skip
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), np.argsort(distances, axis=1)[:, :4])
