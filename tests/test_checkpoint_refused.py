"""MLP.load: files of earlier formats are read, and nothing else is taken for a network."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, Identity, Tanh
from tests.checkpoint_files import assert_refused, rewrite, trained
from tests.networks import build

pytest.importorskip("safetensors", reason="files of networks need safetensors")


@pytest.fixture
def mlp():
    return trained()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


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
