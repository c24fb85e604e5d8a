"""MLP.save and MLP.load: the same network comes back, and nothing else is taken for one."""

import errno
import hashlib
import json
import os
import stat
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, Activation, Criterion, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh
from tests.bfloat16 import rounded
from tests.networks import assert_same_state, batch, build, state

pytest.importorskip("safetensors", reason="files of networks need safetensors")

NETWORKS = {
    "linear classifier": ([5, 3], [Identity], {}),
    "every activation": ([5, 7, 1, 4, 3], [ReLU, Tanh, Sigmoid, Identity], {"momentum": 0.9}),
    "batch norm on some": (
        [5, 7, 6, 3],
        [Sigmoid, ReLU, Identity],
        {"num_bn_layers": 1, "batchnorm_reduction": "mean", "weight_decay": 1e-3},
    ),
    "batch norm on all": ([5, 7, 3], [ReLU, Identity], {"num_bn_layers": 2, "momentum": 0.5}),
}

every_network = pytest.mark.parametrize(
    ("sizes", "activations", "options"), NETWORKS.values(), ids=NETWORKS
)


def fit(mlp, seed=1):
    x, labels, _ = batch(33, 5, 3, dtype=mlp.dtype)
    return mlp.fit(x, labels, epochs=2, batch_size=8, seed=seed)


def header_of(path):
    """The tensors' entries in a safetensors file's header, its metadata left out."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def description_in(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["fastmlp"])


@pytest.fixture
def mlp():
    mlp = build([5, 7, 3], num_bn_layers=1, momentum=0.9)
    fit(mlp)
    return mlp


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# What is saved is what is loaded


@every_network
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_network_trains_on_identically(sizes, activations, options, dtype, path):
    mlp = build(sizes, activations, dtype=dtype, **options)
    fit(mlp)
    mlp.lr, mlp.momentum = 0.1 / 3, mlp.momentum / 3
    if mlp.bn_layers:
        mlp.bn_layers[0].alpha = 0.7
    mlp.save(path)
    loaded = MLP.load(path)
    assert loaded.dtype == np.dtype(dtype)
    assert_same_state(state(loaded), state(mlp))
    np.testing.assert_array_equal(loaded.velocities, mlp.velocities)
    assert repr(loaded) == repr(mlp)
    first, second = fit(mlp), fit(loaded)
    assert first.train_loss == second.train_loss
    assert_same_state(state(loaded), state(mlp))


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "auto"])
def test_what_products_are_computed_in(compute_dtype, path):
    """Kept, unless it is the network's own dtype, even by name."""
    mlp = build([5, 7, 3], dtype=np.float32, compute_dtype=compute_dtype)
    mlp.save(path)
    loaded = MLP.load(path)
    assert loaded.compute_dtype == compute_dtype
    x, _, _ = batch(9, 5, 3, dtype=np.float32)
    np.testing.assert_array_equal(loaded.predict_proba(x), mlp.predict_proba(x))
    mlp.compute_dtype = "float32"
    mlp.save(path)
    assert "compute_dtype" not in description_in(path)
    assert MLP.load(path).compute_dtype == "float32"


def test_weights_of_bfloat16(path, tmp_path):
    """Half the file, BF16 in its header; rounded once, and only weights and their momenta."""
    mlp = build([97, 128, 3], dtype="bfloat16", num_bn_layers=1, momentum=0.9)
    x, labels, _ = batch(33, 97, 3, dtype=np.float32)
    mlp.fit(x, labels, batch_size=8)
    whole = tmp_path / "whole.safetensors"
    mlp.save(whole)
    mlp.save(path, weights_dtype="bfloat16")
    assert path.stat().st_size < 0.54 * whole.stat().st_size
    for name, entry in header_of(path).items():
        assert entry["dtype"] == ("BF16" if name.endswith(("W", "momentum_W")) else "F32"), name
    loaded, expected = MLP.load(path), state(mlp)
    for name in expected:
        if name.startswith(("W", "momentum_W")):
            expected[name] = rounded(expected[name])
    assert_same_state(state(loaded), expected)
    np.testing.assert_array_equal(loaded.predict_proba(x), mlp.predict_proba(x))
    loaded.save(path, weights_dtype="bfloat16")
    assert_same_state(state(MLP.load(path)), expected)


def test_weights_of_bfloat16_that_are_not_finite(path):
    mlp = build([5, 7, 3], dtype=np.float32)
    mlp.linear_layers[0].W[0, :4] = np.nan, np.inf, -np.inf, np.finfo(np.float32).max
    # A NaN whose only bits are those that rounding drops.
    mlp.linear_layers[0].W[1, 0] = np.array(0x7F800001, np.uint32).view(np.float32)
    mlp.save(path, weights_dtype="bfloat16")
    w = MLP.load(path).linear_layers[0].W
    np.testing.assert_array_equal(w[0, :4], [np.nan, np.inf, -np.inf, np.inf])
    assert np.isnan(w[1, 0])


@pytest.mark.parametrize(
    ("dtype", "wanted"), [(np.float64, "bfloat16"), (np.float32, "float16"), (np.float32, 16)]
)
def test_weights_of_another_dtype_are_refused(dtype, wanted, path):
    with pytest.raises(ValueError, match=f"weights_dtype must be .* got {wanted!r}"):
        build([5, 3], dtype=dtype).save(path, weights_dtype=wanted)
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_truncated_file_of_bfloat16(cut, path):
    build([5, 7, 3], dtype=np.float32).save(path, weights_dtype="bfloat16")
    path.write_bytes(path.read_bytes()[:-cut])
    assert_refused(path, "not a fastmlp network")


def test_without_bias(path):
    mlp = MLP(5, 3, [7], [ReLU(), Identity()], lambda i, o: np.ones((i, o)), None,
              SoftmaxCrossEntropy(), 0.1)  # fmt: skip
    fit(mlp)
    mlp.save(path)
    loaded = MLP.load(path)
    assert all(layer.b is None for layer in loaded.linear_layers)
    assert_same_state(state(loaded), state(mlp))


def test_values_that_are_not_finite(mlp, path):
    mlp.linear_layers[0].W[0, :3] = [np.nan, np.inf, -0.0]
    mlp.save(path)
    loaded = MLP.load(path).linear_layers[0].W
    assert loaded.tobytes() == mlp.linear_layers[0].W.tobytes()


def test_equal_networks_give_equal_bytes(mlp, path):
    mlp.save(path)
    first = path.read_bytes()
    MLP.load(path).save(path)
    assert path.read_bytes() == first


def test_tensors_have_readable_names(mlp, path):
    from safetensors.numpy import load_file

    mlp.save(path)
    tensors = load_file(path)
    linear = [
        f"layers.{k}.{name}" for k in (0, 1) for name in ("W", "b", "momentum_W", "momentum_b")
    ]
    parameters = ["gamma", "beta", "momentum_gamma", "momentum_beta"]
    normalisation = [f"layers.0.{name}" for name in (*parameters, "running_mean", "running_var")]
    assert tensors.keys() == {*linear, *normalisation}
    np.testing.assert_array_equal(tensors["layers.1.W"], mlp.linear_layers[1].W)
    np.testing.assert_array_equal(tensors["layers.0.running_var"], mlp.bn_layers[0].running_var)


# Writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(mlp, path, monkeypatch):
    """The error names the file, which the system's own does not."""
    mlp.save(path)
    before = path.read_bytes()
    mlp.parameters[:] = 0

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(OSError, match=f"{os.strerror(errno.ENOSPC)}: '{path}'") as error:
                mlp.save(path)
        assert error.value.errno == errno.ENOSPC
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_that_was_there_hands_on_its_permissions(mode, mlp, path):
    path.touch()
    path.chmod(mode)
    mlp.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert_same_state(state(MLP.load(path)), state(mlp))


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_followed(there, mlp, path):
    folder = path.parent / "elsewhere"
    folder.mkdir()
    target = folder / "target"
    if there:
        target.write_text("old")
    path.symlink_to(target)
    mlp.save(path)
    assert path.is_symlink()
    assert path.readlink() == target
    assert_same_state(state(MLP.load(target)), state(mlp))
    assert os.listdir(folder) == ["target"]


@posix
def test_permissions_are_those_of_any_new_file(mlp, path):
    mlp.save(path)
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_the_folder_must_exist(mlp, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.*the folder .*missing does not exist"):
        mlp.save(tmp_path / "missing" / "model")


class Swish(Activation):
    name = "relu"


class Squared(Criterion):
    pass


def test_layers_of_the_callers_own_are_refused(path):
    arguments = lambda i, o: np.ones((i, o)), None
    for activation, criterion in ((Swish(), SoftmaxCrossEntropy()), (ReLU(), Squared())):
        mlp = MLP(5, 3, [], [activation], *arguments, criterion, 0.1)
        with pytest.raises(ValueError, match=r"only networks.*got.*(Swish|Squared)"):
            mlp.save(path)
        assert not path.exists()


# Files of earlier formats, and damaged ones


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_file_of_an_earlier_format_loads_for_ever(number):
    """As these were written; the second computes in bfloat16, and holds its weights so."""
    mlp = MLP.load(Path(__file__).parent / "files" / f"format{number}.safetensors")
    assert repr(mlp) == "MLP(3-4-2, float32, 34 parameters)"
    assert (mlp.lr, mlp.momentum, mlp.weight_decay) == (0.125, 0.5, 0.25)
    assert mlp.batchnorm_reduction == "mean"
    assert mlp.compute_dtype == ("bfloat16" if number == 2 else "float32")
    assert [type(activation) for activation in mlp.activations] == [Tanh, Identity]
    first, norm = mlp.linear_layers[0], mlp.bn_layers[0]
    np.testing.assert_array_equal(first.W.ravel(), np.arange(12) / 8 - 0.5)
    np.testing.assert_array_equal(first.b.ravel(), np.arange(4) / 4)
    np.testing.assert_array_equal(norm.gamma.ravel(), [1, 2, 3, 4])
    assert norm.alpha == 0.75
    np.testing.assert_array_equal(mlp.velocities, np.arange(34) / 16)
    np.testing.assert_array_equal(mlp.statistics, 1 + np.arange(8) / 4)


@pytest.mark.parametrize("weights_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.long)])
def test_one_flipped_bit_anywhere_is_an_error(weights_dtype, bits, path):
    """In every byte so many of its bits, one after the other."""
    build([1, 2], dtype=np.float32).save(path, weights_dtype)
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        for bit in range(place, place + bits):
            content[place] ^= 1 << bit % 8
            path.write_bytes(content)
            with pytest.raises(ValueError, match="not a fastmlp network"):
                MLP.load(path)
            content[place] ^= 1 << bit % 8
    path.write_bytes(content)
    MLP.load(path)


# Files that are no such network


def rewrite(path, metadata=None, tensors=None):
    """Write the network in path again, with other metadata fields (None: without) and tensors."""
    from safetensors.numpy import load_file, save

    description = description_in(path) | {"sha256": "0" * 64} | (metadata or {})
    held = load_file(path) | (tensors or {})
    content = save(
        {name: tensor for name, tensor in held.items() if tensor is not None},
        {"fastmlp": json.dumps({k: v for k, v in description.items() if v is not ...})},
    )
    digest = hashlib.sha256(content).hexdigest()
    path.write_bytes(content.replace(b"0" * 64, digest.encode(), 1))


METADATA = {
    "of a later format": ({"format": 7}, r"format must be 1 or 2 or .* or 6, got 7"),
    "a field of format 5 in 4": ({"fit": {}}, r"must have the fields .*got .*fit"),
    "a field of format 2 in 1": (
        {"format": 1, "sha256": ..., "compute_dtype": "bfloat16"},
        r"must have the fields",
    ),
    "another field in format 2": (
        {"format": 2, "sha256": ..., "dropout": 0.5},
        r"must have the fields",
    ),
    "compute dtype of no kind": ({"compute_dtype": 16}, r"compute_dtype .*16"),
    "unknown compute dtype": ({"compute_dtype": "fp8"}, r"compute_dtype.*'fp8'"),
    "float64 in bfloat16": (
        {"compute_dtype": "bfloat16"},
        r"needs parameters of dtype float32",
    ),
    "format 3 without a checksum": ({"sha256": ...}, r"must have the fields .*sha256, .*got"),
    "format 1 with a checksum": ({"format": 1}, r"must have the fields .*got .*sha256"),
    "without a field": ({"updates": ...}, r"must have the fields .*updates"),
    "a field of format 3 in 4": ({"lr": 0.1}, r"must have the fields .*got .*lr"),
    "with a field more": ({"pruning": 0.5}, r"must have the fields .*pruning"),
    "text for a number": ({"updates": "3"}, r"field updates .*'3'"),
    "bool for a number": ({"num_bn_layers": True}, r"field num_bn_layers .*True"),
    "number in place of a list": ({"hiddens": 7}, r"field hiddens .*7"),
    "text in a list": ({"hiddens": ["7"]}, r"field hiddens .*'7'"),
    "other dtype": ({"dtype": "float16"}, r"dtype must be float32 or float64, got 'float16'"),
    "dtype of another network": ({"dtype": "float32"}, r"must be .* float32, got .* float64"),
    "unknown activation": ({"activations": ["swish", "identity"]}, r"activation.*'swish'"),
    "too few activations": ({"activations": ["relu"]}, r"activations must have 2 entries.*got 1"),
    "infinite rate": ({"optimizer": {"name": "SGD", "lr": float("inf")}}, r"lr must be finite"),
    "unknown optimizer": ({"optimizer": {"name": "Sgd"}}, r"optimizer must be one of .*got 'Sgd'"),
    "optimizer without a name": ({"optimizer": {"lr": 0.1}}, r"optimizer must be one .*got None"),
    "optimizer of other fields": ({"optimizer": {"name": "SGD", "rho": 1}}, r"argument 'rho'"),
    "squares too few": ({"optimizer": {"name": "Adam"}}, r"lacks optimizer\.squares"),
    "unknown reduction": ({"batchnorm_reduction": "max"}, r"batchnorm_reduction.*'max'"),
    "other width": ({"hiddens": [8]}, r"layers\.0\.W must be \(5, 8\) float64, got \(5, 7\)"),
    "huge width": ({"hiddens": [10**12]}, r"layers\.0\.W must be \(5, 1000000000000\)"),
    "negative width": ({"hiddens": [-7]}, r"layers\.0\.W must be \(5, -7\)"),
    "layer too many": ({"hiddens": [7, 3]}, r"lacks layers\.2\.W"),
    "batch norm too much": ({"num_bn_layers": 2}, r"lacks layers\.1\.beta"),
    "averages too few": ({"batchnorm_alpha": []}, r"batchnorm_alpha must have 1 entries, got 0"),
    "no bias": ({"bias": False}, r"must not hold layers\.0\.b"),
}
TENSORS = {
    "missing": ({"layers.1.W": None}, r"lacks layers\.1\.W"),
    "additional": ({"layers.9.W": np.zeros(1)}, r"must not hold layers\.9\.W"),
    "transposed": ({"layers.1.W": np.zeros((3, 7))}, r"must be \(7, 3\) float64, got \(3, 7\)"),
    "flat": ({"layers.0.b": np.zeros(7)}, r"must be \(1, 7\) float64, got \(7,\)"),
    "float32": ({"layers.0.b": np.zeros((1, 7), np.float32)}, r"float64, got \(1, 7\) float32"),
    "integers": ({"layers.0.b": np.zeros((1, 7), np.int64)}, r"float64, got \(1, 7\) I64"),
}


def assert_refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        MLP.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("metadata", "message"), METADATA.values(), ids=METADATA)
def test_metadata_that_describes_no_network(metadata, message, mlp, path):
    mlp.save(path)
    rewrite(path, metadata=metadata)
    assert_refused(path, message)


@pytest.mark.parametrize(("tensors", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_fit(tensors, message, mlp, path):
    mlp.save(path)
    rewrite(path, tensors=tensors)
    assert_refused(path, message)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"format": "pt"}, {"fastmlp": "{"}, {"fastmlp": "[]"}, {"fastmlp": "[" * 10**5}],
    ids=["none", "empty", "another program's", "cut JSON", "a list", "nested JSON"],
)
def test_safetensors_of_another_program(metadata, path):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros((2, 3))}, path, metadata)
    assert_refused(path, "not a fastmlp network")


def test_truncated_at_any_place(mlp, path):
    mlp.save(path)
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        assert_refused(path, "not a fastmlp network")


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04" + bytes(100), b"\x80\x04K\x01.", b"\xff" * 100, struct.pack("<Q", 2) + b"[]"],
    ids=["zip", "pickle", "noise", "no object"],
)
def test_not_safetensors(content, path):
    path.write_bytes(content)
    assert_refused(path, "not a fastmlp network")


def test_no_file(path):
    with pytest.raises(FileNotFoundError, match="model"):
        MLP.load(path)
    with pytest.raises(IsADirectoryError if os.name == "posix" else OSError):
        MLP.load(path.parent)


def test_without_safetensors(mlp, path, monkeypatch):
    """Nothing is needed to read a file."""
    mlp.save(path)
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"safetensors.*it comes with the extra 'io'"):
        mlp.save(path)
    assert path.read_bytes() == before
    assert_same_state(state(MLP.load(path)), state(mlp))
