"""IDX files, plain and gzipped, and .npz archives."""

import gzip
import io
import struct
import warnings
import zipfile
from functools import partial

import numpy as np

from fastmlp import datasets
from fastmlp._cli.predict import lines
from fastmlp.datasets._idx import read_idx
from tests.hostile.seeds import ends, loaded, some_digits
from tests.mutation import mutated
from tests.networks import build
from tests.tiny_mnist import idx_bytes


def prepare_idx(folder):
    images, _ = some_digits()
    plain = idx_bytes(images)
    return [plain, gzip.compress(plain, 9, mtime=0), gzip.compress(plain, 0, mtime=0)], partial(
        _read_idx, shape=images.shape
    )


def _read_idx(path, shape):
    data, _ = read_idx(path, shape)
    assert data.shape == shape


def idx_mutant(rng, files):
    plain = files[0]
    match rng.randrange(6):
        case 0:
            return mutated(rng, plain)
        case 1:
            return gzip.compress(mutated(rng, plain), 1, mtime=0)
        case 2:
            # More than is promised, by far.
            return gzip.compress(plain + bytes(rng.choice((1, 10**4, 10**6))), 1, mtime=0)
        case 3:
            members = [plain[:100], b"", plain[100:], b"x"]
            return b"".join(gzip.compress(rng.choice(members), 1, mtime=0) for _ in range(4))
    return mutated(rng, rng.choice(files[1:]), files)


# .npz

_DTYPES = ["<f4", ">f4", "<f8", ">f8", "|u1", "<i8", ">i2", "|b1", "|O", "<U3", "|S0", "<c8",
           "|V4", "<M8[s]", "<f2", "(2,3)<f4", "f4,f4", "<f16", "a", "", "f99", "|V0"]  # fmt: skip
_SHAPES = ["()", "(0,)", "(-1,)", "(8, 16)", "(8L, 16L)", "(128,)", "(16, 8)", "(-8, -16)",
           "(True, 128)", "(8, 0)", "(1000000000000000000, 0)", "(99999999999999,)",
           "(0, 99999999999999999999)", "(8, 4, 4)", "(1,) * 9", "(" * 300, "(8, 16), 'x': 1",
           "(1e3,)", "(1_28,)", "(" + "1, " * 70 + "128)"]  # fmt: skip


def prepare_npz(folder):
    images, labels = some_digits(8)
    x = images[:, :4, :4].reshape(8, 16)
    mlp = build([16, 3], dtype=np.float32)
    network = folder / "network.safetensors"
    mlp.save(network)
    tables = [
        {"x": x, "y": labels},
        {"x": np.asfortranarray(x / 7), "y": labels.astype(np.uint8)},
        {"train_x": x.astype(">f4"), "train_y": labels, "test_x": x[:2].astype(">f4"),
         "test_y": labels[:2]},
    ]  # fmt: skip
    files = []
    for table in tables:
        for save in (np.savez, np.savez_compressed):
            save(stream := io.BytesIO(), **table)
            files.append(stream.getvalue())
    return files, partial(_read_npz, mlp=loaded(network))


def _read_npz(path, mlp):
    first, last = ends(path)
    if (first + last) % 4 == 0 and b"train_x" not in path.read_bytes():
        assert list(lines(mlp, path, invert=False))
        return
    task = datasets.TASKS[(first + last) % 2]
    data = datasets.load(path, task=task)
    assert len(data.train_x) == len(data.train_y) > 0


def npz_mutant(rng, files):
    content = rng.choice(files)
    match rng.randrange(5):
        case 0:
            return mutated(rng, content, files)
        case 1:
            # Only the directory at the end, which says where the members lie, and how large.
            at = content.rfind(b"PK\1\2")
            return content[:at] + mutated(rng, content[at:], files)
    members = _members(content)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(members))
        name, array = members[at]
        members[at] = rng.choice(_MEMBER_CHANGES)(rng, name, array)
        if rng.randrange(12) == 0:
            members.append(rng.choice(members))
    return _archive(members, rng)


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _archive(members, rng):
    methods = [zipfile.ZIP_STORED] * 6 + [zipfile.ZIP_DEFLATED] * 3
    methods += [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA] if rng.randrange(8) == 0 else []
    with warnings.catch_warnings(), zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        warnings.simplefilter("ignore")
        for name, array in members:
            archive.writestr(zipfile.ZipInfo(name), array, rng.choice(methods))
    return stream.getvalue()


def _renamed(rng, name, array):
    names = ["x", "y.npy", "x.npy", "../x.npy", "/etc/x.npy", "train_x.npy", "", "x\0y", "é" * 300]
    return rng.choice(names), array


def _damaged_array(rng, name, array):
    return name, mutated(rng, array)


def other_header(rng, name, array):
    """Another dtype, order or shape in a header whose own length fits."""
    size = int.from_bytes(array[8:10], "little")
    dtype, order = rng.choice(_DTYPES), rng.choice(("True", "False", "False", "0", "None"))
    quoted = rng.choice((f"'{dtype}'", f"'{dtype}'", f"[('a', '{dtype}')]", f"['{dtype}']"))
    text = f"{{'descr': {quoted}, 'fortran_order': {order}, 'shape': {rng.choice(_SHAPES)}, }}"
    if rng.randrange(3) == 0:
        text = mutated(rng, text.encode()).decode("latin1")
    header = text.encode("latin1") + b" " * rng.choice((0, 1, 40, 20_000)) + b"\n"
    version = rng.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0"))
    length = struct.pack("<H" if version == b"\1\0" else "<I", min(len(header), 65_535))
    return name, b"\x93NUMPY" + version + length + header + array[10 + size :]


def _values(rng, name, array):
    data = array[:-8] + rng.choice(
        (b"\xff" * 8, struct.pack("<d", np.nan), struct.pack(">f", 1e30))
    )
    return name, data


_MEMBER_CHANGES = [_renamed, _damaged_array, other_header, other_header, _values]
