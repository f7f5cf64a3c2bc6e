from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.errors import BadImage, NoImages
from sightline.image import encode_png, encode_webp, find_images, read_image

SHARED = Path(__file__).parents[2] / "shared" / "images"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def noise(*shape: int, seed: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG put together by hand, so that its header can claim any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# What the stored pixels must undergo to stand upright, by the EXIF standard: where its row 0 and column 0 belong.
UPRIGHT = {
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.transpose(1, 0, 2),  # left, top
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],  # right, top
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda a: a.transpose(1, 0, 2)[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    stored = noise(5, 7, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(encoded(Image.fromarray(stored), kind, exif=exif.tobytes(), **options))
    assert np.array_equal(np.asarray(image), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg(orientation: int) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255  # one whole block, so that compression cannot smear it
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(encoded(Image.fromarray(stored), "JPEG", quality=100, subsampling=0, exif=exif))
    assert np.abs(np.asarray(image).astype(int) - UPRIGHT[orientation](stored)).max() <= 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_meaningless_orientation_changes_nothing(orientation: int) -> None:
    stored = noise(3, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(np.asarray(read_image(encoded(Image.fromarray(stored), exif=exif))), stored)


def test_damaged_exif_beside_sound_pixels_is_no_reason_to_refuse() -> None:
    stored = noise(4, 4, 3)
    data = encoded(Image.fromarray(stored), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff junk")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.asarray(read_image(data)), stored)


def test_transparency_is_laid_on_white() -> None:
    colour, alpha = noise(6, 5, 3), noise(6, 5, 1, seed=12)
    image = read_image(encoded(Image.fromarray(np.dstack([colour, alpha]))))
    share = alpha / 255
    assert np.abs(np.asarray(image) - (colour * share + 255 * (1 - share))).max() <= 1


def test_grey_with_transparency() -> None:
    grey, alpha = noise(4, 5), noise(4, 5, seed=13)
    image = read_image(encoded(Image.fromarray(np.dstack([grey, alpha]))))
    share = alpha / 255
    assert np.abs(np.asarray(image) - (grey * share + 255 * (1 - share))[..., None]).max() <= 1


def test_palette_with_transparency() -> None:
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert np.asarray(read_image(encoded(image, transparency=1))).tolist() == [
        [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    ]
    half = np.asarray(read_image(encoded(image, transparency=bytes([255, 128, 0]))))[0]
    assert half[0].tolist() == [10, 20, 30]
    assert half[2].tolist() == [255, 255, 255]
    assert np.abs(half[1] - (np.array([40, 50, 60]) * 128 + 255 * 127) / 255).max() <= 1


def test_a_transparent_colour_becomes_white() -> None:
    stored = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    image = read_image(encoded(Image.fromarray(stored), transparency=(1, 2, 3)))
    assert np.asarray(image).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_grey_fills_all_three_channels_and_L_keeps_one() -> None:
    grey = noise(4, 9)
    data = encoded(Image.fromarray(grey))
    assert np.array_equal(np.asarray(read_image(data)), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(np.asarray(read_image(data, channels="L")), grey)
    assert read_image(data).mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_rounded_to_eight(kind: str) -> None:
    values = np.concatenate([np.array([0, 128, 129, 257, 32767, 65534, 65535]), np.arange(0, 65536, 977)])
    image = read_image(encoded(Image.fromarray(values[None].astype(np.uint16)), kind))
    assert np.array_equal(np.asarray(image)[0, :, 0], np.rint(values / 257))


def test_sixteen_bit_colour_keeps_its_high_byte() -> None:
    rows = b"\x00" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0x0000, 0x80FF)
    assert np.asarray(read_image(png(2, 1, rows, depth=16, colour=2))).tolist() == [
        [[0x12, 0x56, 0x9A], [0xFF, 0x00, 0x80]]
    ]


def test_cmyk_jpeg_in_adobe_inversion_is_neither_negative_nor_dark() -> None:
    # No ink is white, all inks are black, cyan alone is (0, 255, 255): whatever the file's inversion.
    inks = np.zeros((16, 48, 4), np.uint8)
    inks[:, 16:32] = 255
    inks[:, 32:, 0] = 255
    data = encoded(Image.frombytes("CMYK", (48, 16), inks.tobytes()), "JPEG")
    assert b"Adobe" in data
    image = np.asarray(read_image(data)).astype(int)
    for column, expected in ((8, (255, 255, 255)), (24, (0, 0, 0)), (40, (0, 255, 255))):
        assert np.abs(image[8, column] - expected).max() <= 8


def test_cmyk_tiff() -> None:
    inks = noise(3, 5, 4)
    image = np.asarray(read_image(encoded(Image.frombytes("CMYK", (5, 3), inks.tobytes()), "TIFF"))).astype(int)
    ink, black = inks[..., :3].astype(float), inks[..., 3:].astype(float)
    assert np.abs(image - (255 - ink) * (255 - black) / 255).max() <= 1


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert set(read_image(data).get_flattened_data()) == {(200, 0, 0)}


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_file_is_refused(kind: str, keep: float, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise(64, 64, 3)), kind)
    path = tmp_path / "half"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BadImage, match="half"):
        read_image(path)


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_gives_a_picture_or_a_typed_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000")[seed % 8]
    data = bytearray(encoded(Image.fromarray(noise(32, 32, 3)), kind))
    for place in rng.integers(0, len(data), 1 + seed):
        data[place] = rng.integers(0, 256)
    try:
        image = read_image(bytes(data), pixel_limit=1_000_000)
    except BadImage:
        return
    assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"these are words, not pixels", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\xff\xd8\xff", "not an image|damaged"),
    ],
)
def test_what_is_no_image_is_refused_by_name(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "words.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason) as caught:
        read_image(path)
    assert "words.jpg" in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jpg", tmp_path):
        with pytest.raises(BadImage, match="cannot be read"):
            read_image(path)


def test_floating_point_pictures_are_refused_with_the_reason() -> None:
    with pytest.raises(BadImage, match="floating-point"):
        read_image(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))
    with pytest.raises(BadImage, match="32-bit"):
        read_image(encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"))


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    data = encoded(Image.fromarray(noise(9, 11, 3)))
    assert read_image(data, pixel_limit=99).size == (11, 9)
    with pytest.raises(BadImage, match=r"11 x 9 = 99 pixels, and the limit is 98"):
        read_image(data, pixel_limit=98)
    # A header that claims 10 and 40 gigapixels over a few bytes: between and beyond Pillow's own lines.
    for width, height in ((10_000, 10_000), (12_000, 12_000), (100_000, 100_000), (200_000, 200_000)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(BadImage, match=r"too large|damaged") as caught:
                read_image(png(width, height, b"\x00"), pixel_limit=99_999_999)
        assert str(width * height) in str(caught.value)


def test_the_same_bytes_give_the_same_pixels() -> None:
    data = encoded(Image.fromarray(noise(40, 50, 3)), "JPEG")
    assert read_image(data).tobytes() == read_image(data).tobytes()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of photographs beside the repository is absent")
def test_photographs_are_found_and_read() -> None:
    files = find_images([SHARED])
    assert len(files) == len(list(SHARED.glob("*.jpg")))
    assert np.array_equal(np.asarray(read_image(files[0])), np.asarray(Image.open(files[0]).convert("RGB")))


def test_png_is_lossless_and_repeatable_and_webp_close() -> None:
    pixels = noise(13, 17, 3)
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_png(pixels)))), pixels)
    assert encode_png(pixels) == encode_png(pixels[:, ::-1][:, ::-1])
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_webp(pixels, lossless=True)))), pixels)
    ramp = np.repeat(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(20, axis=0)
    assert np.abs(np.asarray(Image.open(BytesIO(encode_webp(ramp)))).astype(int) - ramp).max() <= 8


@pytest.fixture
def album(tmp_path: Path) -> Path:
    names = ["b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/er/c.webp", ".git/d.png", "B/e.tiff", "photo[1].jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def relative(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_a_folder_is_searched_sorted_without_what_is_hidden(album: Path) -> None:
    assert relative(find_images([album]), album) == ["B/e.tiff", "a.png", "b.JPG", "deep/er/c.webp", "photo[1].jpg"]


def test_a_file_named_outright_is_taken_and_order_is_kept(album: Path) -> None:
    given = [album / "notes.txt", album / "deep", album / ".hidden.png"]
    assert relative(find_images(given), album) == ["notes.txt", "deep/er/c.webp", ".hidden.png"]


def test_duplicates_come_once_in_the_place_of_the_first(album: Path) -> None:
    given = [album / "b.JPG", album, album / "deep" / ".." / "a.png"]
    assert relative(find_images(given), album)[:3] == ["b.JPG", "B/e.tiff", "a.png"]
    assert len(find_images(given)) == 5


def test_patterns(album: Path) -> None:
    assert relative(find_images([str(album / "**" / "*.webp")]), album) == ["deep/er/c.webp"]
    assert relative(find_images([str(album / "*")]), album) == [
        "B/e.tiff",
        "a.png",
        "b.JPG",
        "deep/er/c.webp",
        "photo[1].jpg",
    ]
    assert relative(find_images([album / "photo[1].jpg"]), album) == ["photo[1].jpg"]  # a name, not a pattern


def test_links_that_lead_back_end_the_search(album: Path) -> None:
    (album / "deep" / "loop").symlink_to(album, target_is_directory=True)
    names = [file.name for file in find_images([album])]
    assert names.count("c.webp") == 1
    assert len(names) == 5


def test_nothing_found_says_what_was_given_and_what_is_accepted(album: Path) -> None:
    empty = album / "empty"
    empty.mkdir()
    with pytest.raises(NoImages, match=r"empty.*\.jpg.*\.png"):
        find_images([empty])
    with pytest.raises(NoImages, match=r"no file or folder 'nowhere\.jpg'"):
        find_images([album, "nowhere.jpg"])
    with pytest.raises(NoImages, match="matches the pattern"):
        find_images([album / "*.gif"])
    with pytest.raises(NoImages, match="empty list"):
        find_images([])
    assert len(find_images([empty, album])) == 5
