"""Pictures from strangers, on their way to `fastmlp predict`."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest

from fastmlp._cli import png
from fastmlp._cli.predict import lines
from tests.hostile.pictures import SIGNATURE, chunk
from tests.memory import takes
from tests.networks import build

Image = pytest.importorskip("PIL.Image", reason="pictures need the extra cli")


@pytest.fixture(scope="module")
def mlp():
    return build([64, 3], dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.png"


GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def written(pixels, kind="png", **options):
    Image.fromarray(pixels).save(stream := io.BytesIO(), kind, **options)
    return stream.getvalue()


def picture(width, height, data, depth=8, colour=0, further=()):
    """A PNG file of that header, with data as its IDAT and other chunks before it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return SIGNATURE + b"".join([header, *further, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def rows(width, height):
    return zlib.compress(bytes((width + 1) * height), 9)


def refused(mlp, path, message):
    with pytest.raises(ValueError, match=message) as caught:
        list(lines(mlp, path, invert=False))
    assert str(caught.value).startswith(f"{path}: cannot be read as an image: ")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def refused_for_nothing(mlp, path, message):
    refused(mlp, path, message)
    assert takes(lambda: refused(mlp, path, message)) < 4


def class_of(mlp, path):
    """What is said of it, after its name, without a warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (line,) = lines(mlp, path, invert=False)
    assert said == []
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", ["gif", "bmp", "tiff", "jpeg", "ppm", "webp", "ico", "pcx", "tga"])
def test_other_formats_are_refused(kind, mlp, path):
    """Whatever the file is called: Pillow would open them."""
    path.write_bytes(written(GRAY, kind))
    refused(mlp, path, r"must be a PNG file, begin with b'.x89PNG.*', got b'")


def test_a_program_for_a_printer_is_not_run(mlp, path, tmp_path):
    """Pillow hands EPS files to Ghostscript."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\nshowpage\n")
    refused(mlp, path, "must be a PNG file")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (60_000, 60_000, "must have at most 50,000,000 pixels, got 60000×60000"),
        (2**32 - 1, 2**32 - 1, "must have at most 50,000,000 pixels, got 4294967295×4294967295"),
        (2**31, 1, "must have at most 50,000,000 pixels, got 2147483648×1"),
        (7000, 7000, "49007000 bytes are promised, more than 68 can become"),
        (49_000_000, 1, "49000001 bytes are promised, more than 68 can become"),
        (0, 8, "cannot be read as an image"),
    ],
)
def test_pixels_that_are_not_there(width, height, message, mlp, path):
    path.write_bytes(picture(width, height, zlib.compress(b"\0" * 9)))
    refused_for_nothing(mlp, path, message.replace("68", r"\d\d"))


def test_colours_count_too(mlp, path):
    """16 bits of four colours: eight bytes a pixel."""
    data = rows(7000, 1000)
    path.write_bytes(picture(7000, 5000, data, depth=16, colour=6))
    refused_for_nothing(mlp, path, r"280005000 bytes are promised, more than \d+ can become")


def test_as_many_pixels_as_there_may_be(mlp, path, monkeypatch, capsys):
    monkeypatch.setattr(png, "LARGEST", 300 * 400)
    path.write_bytes(picture(300, 400, rows(300, 400)))
    assert class_of(mlp, path)
    path.write_bytes(picture(300, 401, rows(300, 401)))
    refused(mlp, path, "must have at most 120,000 pixels, got 300×401")


def bomb(kind, size=8 << 20):
    text = zlib.compress(bytes(size), 9)
    content = {
        b"zTXt": b"a\0\0" + text,
        b"iTXt": b"a\0\1\0\0\0" + text,
        b"iCCP": b"a\0\0" + text,
        b"tEXt": b"a\0" + bytes(size),
        b"eXIf": bytes(size),
    }
    return chunk(kind, content[kind])


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf"])
def test_texts_and_profiles_are_not_read(kind, mlp, path):
    """Compressed, they could become a thousand times as large."""
    plain = written(GRAY)
    path.write_bytes(plain)
    expected = class_of(mlp, path)
    path.write_bytes(plain[:33] + bomb(kind) * (9 if kind != b"tEXt" else 1) + plain[33:])
    assert png.read_png(path) == plain
    assert class_of(mlp, path) == expected
    assert takes(lambda: class_of(mlp, path)) < 4


def test_the_first_picture_of_an_animation(mlp, path):
    first, second = Image.fromarray(GRAY), Image.fromarray(255 - GRAY)
    first.save(path, save_all=True, append_images=[second])
    expected = class_of(mlp, path)
    first.save(path)
    assert class_of(mlp, path) == expected


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "RGB", "I;16"])
def test_cut_at_any_place(mode, mlp, path):
    image = Image.fromarray(GRAY)
    image = Image.fromarray(GRAY.astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        refused(mlp, path, "must be a PNG file|it is cut short")


GOOD = written(GRAY)

CHUNKS = {
    "no header": (SIGNATURE + chunk(b"IEND", b""), "first chunk must be an IHDR"),
    "a short header": (SIGNATURE + chunk(b"IHDR", bytes(12)) + GOOD[33:], "an IHDR of 13 bytes"),
    "a second header": (GOOD[:33] * 2 + GOOD[41:], r"it is cut short|must not be there"),
    "an unknown chunk": (GOOD[:33] + chunk(b"CgBI", b"") + GOOD[33:], "chunk b'CgBI' must not be"),
    "colours behind pixels": (
        GOOD[:-12] + chunk(b"tRNS", b"a\0b") + GOOD[-12:], "chunk b'tRNS' must not be there"
    ),
    "no pixels": (GOOD[:33] + GOOD[-12:], "bytes are promised|cannot be read as an image"),
    "another checksum": (GOOD[:-13] + b"x" + GOOD[-12:], "chunk b'IDAT' must have the checksum"),
    "a chunk of 4 GB": (GOOD[:33] + b"\xff\xff\xff\xffIDAT" + GOOD[33:], "it is cut short"),
    "a colour type of 5": (picture(8, 8, rows(8, 8), colour=5), "colour type must be 0, 2, 3, 4"),
    "a depth of 3": (picture(8, 8, rows(8, 8), depth=3), "cannot be read as an image"),
    "no colours": (picture(8, 8, rows(8, 8), colour=3), "it must have a chunk b'PLTE'"),
    "a name that prints": (GOOD[:33] + chunk(b"Q\x1b[2", b"") + GOOD[33:], "must not be there"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_that_make_no_picture(name, mlp, path):
    content, message = CHUNKS[name]
    path.write_bytes(content)
    refused(mlp, path, message)


def test_what_is_no_file(mlp, path):
    refused(mlp, path, "No such file")
    path.mkdir()
    refused(mlp, path, "Is a directory|Permission denied")


def test_names_of_rows_are_not_kept(mlp, tmp_path):
    """Rows are told one by one."""
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 64), np.uint8))
    told = list(lines(mlp, tmp_path / "a.npz", invert=False))
    assert [line.partition(": ")[0] for line in told] == [
        f"{tmp_path}/a.npz[{k}]" for k in range(3)
    ]
