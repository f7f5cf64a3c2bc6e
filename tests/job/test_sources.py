"""Tar shards, Parquet files and URLs as inputs, sound and malicious."""

from __future__ import annotations

import gc
import io
import os
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sightline.errors import BadImage, MissingExtra, NoImages, UsageError
from sightline.job.inputs import Input, Inputs, inputs_from, load_photo
from sightline.job.sources import files, parquet
from sightline.job.sources.files import files_of
from sightline.job.sources.find import spelt_out
from sightline.job.sources.listing import repeated_ids


def picture(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def pack(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def ids(*paths: Any) -> list[str]:
    return [one.id for one in inputs_from(paths).entries]


def said(one: Input) -> str:
    with pytest.raises(BadImage) as refused:
        one.read()
    return str(refused.value)


def test_members_are_read_where_they_lie(tmp_path: Path):
    long = "a" * 150 + "/" + "b" * 120 + ".png"  # needs a header of its own
    names = {"0.png": 3, "deep/er/1.JPG": 7, long: 9}
    pack(
        tmp_path / "a.tar",
        {"0.cls": b"5", **{name: picture(value) for name, value in names.items()}, "0.json": b"{}"},
    )
    inputs = inputs_from([tmp_path / "a.tar"])
    assert [one.id for one in inputs.entries] == [f"a.tar/{name}" for name in names]
    assert [one.read() for one in inputs.entries] == [picture(value) for value in names.values()]
    assert inputs.entries[1].place == f"{tmp_path}/a.tar/deep/er/1.JPG"
    loaded = load_photo(lambda image, photo: (np.asarray(image, np.float32), photo))(inputs.entries[2])
    np.testing.assert_array_equal(loaded.tensor, np.full((4, 6, 3), 9))
    assert (loaded.photo.path, loaded.photo.place) == (None, inputs.entries[2].place)


def test_shards_by_folder_pattern_and_braces(tmp_path: Path):
    for number in range(3):
        pack(tmp_path / f"s-{number:02d}.tar", {"x.png": picture(number)})
    expected = [f"s-{number:02d}.tar/x.png" for number in range(3)]
    assert ids(tmp_path) == ids(f"{tmp_path}/s-*.tar") == ids(f"{tmp_path}/s-{{00..02}}.tar") == expected
    assert list(spelt_out("{a,b}/{1..2}")) == ["a/1", "a/2", "b/1", "b/2"]
    (tmp_path / "other").mkdir()
    pack(tmp_path / "other/s-00.tar", {"x.png": picture(5), "y.png": picture(6)})
    found = ids(tmp_path / "s-00.tar", tmp_path / "other/s-00.tar")
    assert found == [f"{tmp_path.name}/s-00.tar/x.png", "other/s-00.tar/x.png", "other/s-00.tar/y.png"]
    with pytest.raises(NoImages, match="no file"):
        inputs_from([tmp_path / "none.tar"])


def test_a_name_that_comes_twice_is_numbered(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for value in (1, 2):
            info = tarfile.TarInfo("x.png")
            info.size = len(picture(value))
            archive.addfile(info, io.BytesIO(picture(value)))
    inputs = inputs_from([tmp_path / "a.tar"])
    assert [one.id for one in inputs.entries] == ["a.tar/x.png", "a.tar/x.png#2"]
    assert [one.read() for one in inputs.entries] == [picture(1), picture(2)]


def test_malicious_members_are_set_aside_with_a_reason(tmp_path: Path):
    link, hard, device, folder = (tarfile.TarInfo(f"{name}.png") for name in ("link", "hard", "device", "folder"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "ok.png"
    device.type, folder.type = tarfile.CHRTYPE, tarfile.DIRTYPE
    pack(
        tmp_path / "a.tar",
        {"ok.png": picture(1), "../up.png": picture(2), "/root.png": picture(3), "a/../../b.png": picture(4),
         "link.png": link, "hard.png": hard, "device.png": device, "folder.png": folder, "last.png": picture(5)},
    )  # fmt: skip
    entries = {one.id: one for one in inputs_from([tmp_path / "a.tar"]).entries}
    assert len(entries) == 9
    assert entries["a.tar/ok.png"].read() == picture(1)
    assert entries["a.tar/last.png"].read() == picture(5)
    for name in ("../up.png", "/root.png", "a/../../b.png"):
        assert "leads out of the archive" in said(entries[f"a.tar/{name}"])
    assert "link to '/etc/passwd'" in said(entries["a.tar/link.png"])
    assert "link" in said(entries["a.tar/hard.png"])
    assert "device" in said(entries["a.tar/device.png"])
    assert "folder" in said(entries["a.tar/folder.png"])


def test_a_shard_that_is_cut_short_says_so(tmp_path: Path):
    path = pack(tmp_path / "a.tar", {f"{row}.png": picture(row) for row in range(5)})
    whole = path.read_bytes()
    for size in (3 * 1024 + 512 + 20, 3 * 1024 + 100, 1024 + 512 + 30):  # within a member, within a header
        path.write_bytes(whole[:size])
        entries = list(inputs_from([path]).entries)
        readable = [one.id for one in entries if not one.id.endswith("(damaged)") and _reads(one)]
        assert readable == [f"a.tar/{row}.png" for row in range(size // 1024)]
        assert entries[-1].id == "a.tar/(damaged)"
        assert "cut short" in said(entries[-1])
    path.write_bytes(b"")
    assert "cut short" in said(inputs_from([path]).entries[0])
    path.write_bytes(os.urandom(4096))
    assert "damaged" in said(inputs_from([path]).entries[0])


def _reads(one: Input) -> bool:
    try:
        return bool(one.read())
    except BadImage:
        return False


def test_headers_that_would_fill_the_memory_are_refused(tmp_path: Path):
    info = tarfile.TarInfo("x.png")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 33)  # sparse: 8 GiB that take no room
    tracemalloc.start()
    (entry,) = inputs_from([path]).entries
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "header of 8,589,934,592 bytes" in said(entry)
    assert peak < 8 << 20


def test_members_and_files_that_are_too_large(tmp_path: Path):
    info = tarfile.TarInfo("big.png")
    info.size = 1 << 30
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + (1 << 30) + 1024)
    assert "at most" in said(inputs_from([path]).entries[0])
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 30)
    assert "at most" in said(inputs_from([tmp_path / "huge.png"]).entries[0])
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe" in said(inputs_from([tmp_path / "pipe.png"]).entries[0])


def test_compressed_archives_are_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x.png"))
    with pytest.raises(UsageError, match="compressed"):
        inputs_from([tmp_path / "a.tar.gz"])


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_of_bytes_in_any_order(tmp_path: Path, nested: bool):
    contents = [picture(row) for row in range(100)]
    cells: Any = [{"bytes": one, "path": "x"} for one in contents] if nested else contents
    table = pa.table({"image": cells, "caption": [str(row) for row in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=37)
    inputs = inputs_from([tmp_path / "a.parquet"])
    assert [inputs.entries[row].id for row in (0, 99)] == ["a.parquet/0", "a.parquet/99"]
    order = np.random.default_rng(3).permutation(100)
    assert [inputs.entries[int(row)].read() for row in order] == [contents[row] for row in order]
    assert [one.read() for one in inputs.entries] == contents


def test_parquet_files_beyond_those_that_stay_open_are_closed(tmp_path: Path):
    for number in range(2 * parquet.FILES):
        pq.write_table(pa.table({"image": [picture(number)]}), tmp_path / f"{number}.parquet")
    inputs = inputs_from([f"{tmp_path}/*.parquet"])
    assert [one.read() for one in inputs.entries] == [picture(number) for number in range(2 * parquet.FILES)]
    gc.collect()  # a file that was left open warns, which is an error here


def test_parquet_of_paths_and_ids(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.png").write_bytes(picture(1))
    table = pa.table({"id": ["a", "b", "c"], "where": ["in/x.png", None, str(tmp_path / "in/x.png")]})
    pq.write_table(table, tmp_path / "a.parquet")
    inputs = inputs_from([f"{tmp_path}/a.parquet:where"])
    assert [one.id for one in inputs.entries] == ["a", "b", "c"]
    assert inputs.entries[0].read() == inputs.entries[2].read() == picture(1)
    assert "names no file" in said(inputs.entries[1])
    with pytest.raises(UsageError, match=r"FILE\.parquet:COLUMN"):
        inputs_from([tmp_path / "a.parquet"])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="no Parquet"):
        inputs_from([tmp_path / "b.parquet"])


def test_urls(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'sightline[remote]'")
    memory = fsspec.filesystem("memory")
    memory.pipe("/pics/a.png", picture(1))
    memory.pipe("/pics/deep/b.png", picture(2))
    memory.pipe("/pics/notes.txt", b"no image")
    inputs = inputs_from(["memory://pics"])
    assert [(one.id, one.read()) for one in inputs.entries] == [("a.png", picture(1)), ("deep/b.png", picture(2))]
    assert inputs.files_sha256
    assert ids("memory://pics/*.png") == ["a.png"]
    assert ids("memory://pics/notes.txt") == ["notes.txt"]
    pack(tmp_path / "a.tar", {"x.png": picture(8)})
    memory.pipe("/pics/a.tar", (tmp_path / "a.tar").read_bytes())
    (one,) = inputs_from(["memory://pics/a.tar"]).entries
    assert (one.id, one.read()) == ("a.tar/x.png", picture(8))
    pq.write_table(pa.table({"image": [picture(4)]}), tmp_path / "b.parquet")
    memory.pipe("/pics/b.parquet", (tmp_path / "b.parquet").read_bytes())
    assert inputs_from(["memory://pics/b.parquet"]).entries[0].read() == picture(4)
    memory.rm("/pics/a.png")
    assert "cannot be read" in said(inputs.entries[0])
    with pytest.raises(NoImages):
        inputs_from(["memory://nothing/here"])
    with pytest.raises((UsageError, MissingExtra)):
        inputs_from(["nosuch://x/y"])


def test_urls_of_several_archives(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'sightline[remote]'")
    memory = fsspec.filesystem("memory")
    for number in range(2):
        shard = pack(tmp_path / f"{number}.tar", {"x.png": picture(number)})
        memory.pipe(f"/shards/deep/{number}.tar", shard.read_bytes())
        pq.write_table(pa.table({"no": [b"x"], "image": [picture(5 + number)]}), tmp_path / f"{number}.parquet")
        memory.pipe(f"/tables/{number}.parquet", (tmp_path / f"{number}.parquet").read_bytes())
    memory.pipe("/shards/index.json", b"{}")
    inputs = inputs_from(["memory://shards"])
    assert [(one.id, one.read()) for one in inputs.entries] == [
        ("0.tar/x.png", picture(0)), ("1.tar/x.png", picture(1)),
    ]  # fmt: skip
    inputs = inputs_from(["memory://tables/*.parquet:image"])
    assert [(one.id, one.read()) for one in inputs.entries] == [
        ("0.parquet/0", picture(5)), ("1.parquet/0", picture(6)),
    ]  # fmt: skip
    memory.pipe("/shards/a.png", picture(9))
    assert ids("memory://shards") == ["a.png"], "a folder of images is that, as on this machine"
    with pytest.raises(NoImages):
        inputs_from(["memory://tables"])


class Chunks(BaseHTTPRequestHandler):
    """Answers in chunks, without saying how many bytes will come."""

    protocol_version = "HTTP/1.1"
    contents: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        content = self.contents[self.path]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (*(content[at : at + 50] for at in range(0, len(content), 50)), b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def urls_of_unknown_length(contents: dict[str, bytes], kind: str) -> Iterator[str]:
    """Where they lie: behind a server of this machine, or in a file system that tells no sizes."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'sightline[remote]'")
    if kind == "silent":
        from fsspec.implementations.memory import MemoryFileSystem

        class Silent(MemoryFileSystem):
            @classmethod
            def _strip_protocol(cls, path: str) -> str:
                return super()._strip_protocol(path.removeprefix("silent://"))

            def info(self, path: str, **options: Any) -> dict[str, Any]:
                return super().info(path, **options) | {"size": None}

        fsspec.register_implementation("silent", Silent, clobber=True)
        for name, content in contents.items():
            fsspec.filesystem("memory").pipe(f"/silent{name}", content)
        yield "silent://silent"
        return
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    Chunks.contents = contents
    with ThreadingHTTPServer(("127.0.0.1", 0), Chunks) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("kind", ["silent", "http"])
def test_images_of_unknown_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    noise = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(noise, "PNG")
    archive = pack(tmp_path / "a.tar", {"x.png": picture(1)}).read_bytes()
    with urls_of_unknown_length({"/a.png": noise.getvalue(), "/a.tar": archive, "/a.parquet": b"PAR1"}, kind) as url:
        (one,) = inputs_from([f"{url}/a.png"]).entries
        assert one.size == -1
        assert one.read() == noise.getvalue()
        monkeypatch.setattr("sightline.job.inputs.LARGEST", 999)
        monkeypatch.setattr("sightline.job.sources.store.LARGEST", 999)
        assert "has 1,000 bytes; an image may have 999 at most" in said(one), "no more is read"
        with pytest.raises(UsageError, match="of unknown length"):
            inputs_from([f"{url}/a.tar"])
        with pytest.raises(UsageError, match="of unknown length"):
            inputs_from([f"{url}/a.parquet"])


def test_kinds_may_be_mixed(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(picture(1))
    pack(tmp_path / "s.tar", {"a.png": picture(2)})
    pq.write_table(pa.table({"image": [picture(3)]}), tmp_path / "p.parquet")
    inputs = inputs_from([tmp_path / "in", tmp_path / "s.tar", tmp_path / "p.parquet", tmp_path / "in/a.png"])
    assert [one.id for one in inputs.entries] == ["a.png", "s.tar/a.png", "p.parquet/0", "a.png#2"]
    assert [one.read() for one in inputs.entries[1:3]] == [picture(2), picture(3)]


def test_many_inputs_take_little_memory(tmp_path: Path):
    """A folder of names, without pictures: what each costs until it is asked for."""
    count = 20_000
    for row in range(count):
        (tmp_path / f"{row:08d}.png").touch()
    tracemalloc.start()
    inputs = Inputs(files_of([str(tmp_path)]))
    assert inputs.sha256
    own = tracemalloc.Filter(True, str(Path(files.__file__).parent / "*"))  # not Python's table of interned names
    taken = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)
    tracemalloc.stop()
    assert taken / count < 64, "bytes per input, 12 of them the name's"
    assert inputs.entries[123].id == "00000123.png"
    assert [one.id for one in inputs.entries[5:7]] == ["00000005.png", "00000006.png"]


def test_repeated_ids_are_found_by_position():
    entries = [Input(name) for name in ("a", "b", "a", "c", "b", "a")]
    assert repeated_ids(entries) == [2, 4, 5]
    with pytest.raises(UsageError, match="'a' occurs more than once"):
        Inputs(tuple(entries))
