"""PNG files of every kind that Pillow writes."""

import contextlib
import io
import struct
import zlib
from functools import partial

import numpy as np

from fastmlp._cli.predict import lines
from tests.hostile.seeds import ends, loaded, some_digits
from tests.mutation import mutated
from tests.networks import build

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data):
    return (
        struct.pack(">I", len(data) % 2**32)
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def prepare_png(folder):
    from PIL import Image

    images, _ = some_digits(1)
    gray = Image.fromarray(images[0])
    clear = gray.convert("RGBA")
    clear.putalpha(gray)
    palette = gray.quantize(8)
    deep = Image.fromarray(images[0].astype(np.uint16) * 257)
    colour, shares = gray.convert("RGB"), bytes(range(0, 256, 32))
    kinds = [
        (gray, {}), (colour, {}), (clear, {}), (gray.convert("LA"), {}), (gray.convert("1"), {}),
        (palette, {}), (palette, {"transparency": shares}), (gray, {"transparency": 0}),
        (colour, {"transparency": (0, 0, 0)}), (deep, {}),
        (gray, {"save_all": True, "append_images": [gray.rotate(90)]}),
    ]  # fmt: skip
    files = []
    for image, options in kinds:
        image.save(stream := io.BytesIO(), "png", **options)
        files.append(stream.getvalue())
    network = folder / "network.safetensors"
    build([64, 3], dtype=np.float32).save(network)
    return files, partial(_read_png, mlp=loaded(network))


def _read_png(path, mlp):
    (line,) = lines(mlp, path, invert=bool(ends(path)[0] % 2))
    assert line.startswith(f"{path}: ")


def png_mutant(rng, files):
    content = rng.choice(files)
    if rng.randrange(4) == 0:
        return mutated(rng, content, files)
    chunks, at = [], 8
    while at < len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        chunks.append((kind, content[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_CHUNK_CHANGES)(rng, chunks, files)
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def _other_chunk(rng, chunks, files):
    at = rng.randrange(len(chunks))
    chunks[at] = chunks[at][0], mutated(rng, chunks[at][1], files)


def _other_size(rng, chunks, files):
    sizes = 0, 1, 7, 28, 300, 10**4, 60_000, 2**31 - 1, 2**32 - 1
    depth, colour = rng.choice((1, 2, 4, 8, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 1))
    rest = bytes([depth, colour, 0, 0, rng.randrange(2)])
    kept = chunks[0][1][8:] if rng.randrange(2) else rest
    chunks[0] = b"IHDR", struct.pack(">II", rng.choice(sizes), rng.choice(sizes)) + kept


def _other_kind(rng, chunks, files):
    rest = bytes(
        [rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, rng.randrange(2)]
    )
    chunks[0] = b"IHDR", chunks[0][1][:8] + rest


def _other_pixels(rng, chunks, files):
    for at, (kind, data) in enumerate(chunks):
        if kind == b"IDAT":
            with contextlib.suppress(zlib.error):
                pixels = mutated(rng, zlib.decompressobj().decompress(data, 10**6))
                chunks[at] = kind, zlib.compress(pixels, rng.choice((0, 1, 9)))
            return


def _further_chunk(rng, chunks, files):
    kinds = [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"gAMA",
             b"tRNS", b"PLTE", b"IHDR", b"IDAT", b"IEND", b"CgBI", b"\0\0\0\0"]  # fmt: skip
    bomb = b"a\0\0" + zlib.compress(bytes(200_000), 9)
    data = rng.choice((b"", b"a\0b", bomb, rng.randbytes(30), bytes(800)))
    chunks.insert(rng.randrange(len(chunks) + 1), (rng.choice(kinds), data))


def _fewer_chunks(rng, chunks, files):
    if len(chunks) > 1:
        del chunks[rng.randrange(len(chunks))]


_CHUNK_CHANGES = [
    _other_chunk, _other_size, _other_kind, _other_pixels, _further_chunk, _fewer_chunks,
]  # fmt: skip
