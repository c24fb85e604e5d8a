"""Files of networks that lie about sizes, places and numbers: refused before memory is taken."""

import json
import re
import struct

import numpy as np
import pytest

from fastmlp import MLP, _safetensors, optimizers
from fastmlp.layers import BatchNorm
from tests.hostile.networks import with_checksum
from tests.memory import peak_memory
from tests.networks import build

pytest.importorskip("safetensors", reason="files of networks need safetensors")

from tests.checkpoint_files import assert_refused, rewrite


@pytest.fixture
def path(tmp_path):
    """The file of a network."""
    build([5, 7, 3], dtype=np.float32, num_bn_layers=1, momentum=0.9).save(tmp_path / "m")
    return tmp_path / "m"


def change(path, edit):
    """Write the file again with its header's fields changed in place; its checksum fits."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + size])
    edit(fields)
    path.write_bytes(with_checksum(json.dumps(fields).encode(), content[8 + size :]))


def refused_for_nothing(path, message, megabytes=1.0):
    """Refused, and without memory."""
    assert_refused(path, message)
    assert peak_memory(lambda: assert_refused(path, message)) < megabytes * 2**20


def test_the_fixture_is_whole(path):
    change(path, lambda fields: None)
    assert repr(MLP.load(path)) == "MLP(5-7-3, float32, 80 parameters)"


# The header


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**40, 5 << 20])
def test_a_header_of_gigantic_size(size, path):
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    refused_for_nothing(path, f"header must have at most 4194304 bytes, got {size}")


@pytest.mark.parametrize(
    "content", [b"age,city,spend\n1,2,3\n", b"no model", b"\x89PNG\r\n\x1a\n" * 9]
)
def test_a_file_of_another_kind(content, path):
    path.write_bytes(content)
    refused_for_nothing(path, r": not a fastmlp network: it is no \.safetensors file$")


def test_a_header_larger_than_the_file(path):
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", len(content)) + content[8:])
    refused_for_nothing(path, rf"header must have at most {len(content) - 8} bytes, got ")


def test_a_header_too_large_to_be_written(path, monkeypatch):
    """`save` writes nothing that `load` refuses."""
    monkeypatch.setattr(_safetensors, "LARGEST_HEADER", 1000)
    mlp, before = build([5, 7, 3]), path.read_bytes()
    with pytest.raises(ValueError, match="header must have at most 1000 bytes, got "):
        mlp.save(path)
    assert path.read_bytes() == before


HEADERS = {
    "no UTF-8": (b'{"\xff": 1}', "utf-8"),
    "two fields of one name": (b'{"a": {}, "a": {}}', "two fields of one name"),
    "nested deeply": (b"[" * 100_000, "recursion"),
    "a number of 5,000 digits": (b'{"a": %s}' % (b"9" * 5000), "digits"),
    "a list": (b"[]", "must be a JSON object"),
    "metadata of numbers": (b'{"__metadata__": {"fastmlp": 1}}', "metadata must be texts"),
    "metadata in a list": (b'{"__metadata__": []}', "metadata must be texts"),
    "no metadata": (b"{}", "metadata must have the key 'fastmlp'"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_none(name, path):
    header, message = HEADERS[name]
    path.write_bytes(with_checksum(header, b""))
    refused_for_nothing(path, message, megabytes=4)


def test_millions_of_values_in_a_header(path):
    path.write_bytes(with_checksum(b'{"__metadata__": [%s0]}' % (b"0," * 3_000_000), b""))
    refused_for_nothing(path, "header must have at most 4194304 bytes")


TENSORS = {
    "overlapping": (
        {"data_offsets": [0, 28]},
        "must begin at byte 28 of the data, got 0|must begin at byte",
    ),
    "negative": ({"data_offsets": [-28, 0]}, "must begin at byte 0 of the data, got -28"),
    "backwards": ({"data_offsets": [28, 0]}, "must give dtype, shape and place of layers.0.b"),
    "of another size": ({"shape": [1, 8]}, "must give dtype, shape and place of layers.0.b"),
    "of terabytes": ({"shape": [1 << 20, 1 << 20]}, "must give dtype, shape and place"),
    "of infinite size": ({"data_offsets": [0, float("inf")]}, "must give dtype, shape and place"),
    "of a fraction": ({"data_offsets": [0.0, 28.0]}, "must give dtype, shape and place"),
    "of no dtype": ({"dtype": "F128"}, "must give dtype, shape and place"),
    "of many dimensions": ({"shape": [1] * 8 + [7]}, "must give dtype, shape and place"),
    "of beyond 64 bits": ({"shape": [10**30, 0]}, "must give dtype, shape and place"),
    "of less than nothing": ({"shape": [-1, -7]}, "must give dtype, shape and place"),
    "of texts": ({"shape": "17"}, "must give dtype, shape and place"),
    "with a field more": ({"device": "cuda"}, "must give dtype, shape and place"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_cannot_be_there(name, path):
    entry, message = TENSORS[name]
    change(path, lambda fields: fields["layers.0.b"].update(entry))
    refused_for_nothing(path, message)


def test_bytes_that_belong_to_no_tensor(path):
    path.write_bytes(path.read_bytes() + b"\0")
    refused_for_nothing(path, "promises 696 bytes of tensors, 697 follow")


# The description


def test_a_network_of_terabytes_that_is_not_there(path):
    rewrite(path, {"hiddens": [10**6, 10**6], "activations": ["relu", "relu", "identity"]})
    refused_for_nothing(path, r"layers\.0\.W must be \(5, 1000000\)|lacks layers\.2\.W")


def test_a_hundred_thousand_layers_that_are_not_there(path):
    rewrite(path, {"hiddens": [7] * 100_000})
    refused_for_nothing(path, "100001 layers must have more tensors than 14", megabytes=8)


@pytest.mark.parametrize("field", ["activations", "activation_parameters", "dropout"])
def test_lists_of_other_lengths_than_the_layers(field, path):
    values = {"activations": "relu", "activation_parameters": None, "dropout": 0.5}
    rewrite(path, {field: [values[field]] * 100_000})
    refused_for_nothing(path, f"{field} must have 2 entries, got 100000", megabytes=24)


NUMBERS = {
    "updates before the first": ({"updates": -1}, "updates must be at least 0, got -1"),
    "updates without end": ({"updates": 1 << 62}, r"updates must be below 2\*\*62"),
    "a negative share of the old": ({"batchnorm_alpha": [-0.5]}, "alpha must be from 0 to 1"),
    "more than all of the old": ({"batchnorm_alpha": [1.5]}, "alpha must be from 0 to 1"),
    "no number": ({"batchnorm_alpha": [np.nan]}, "alpha must be finite"),
    "beyond float64": ({"batchnorm_alpha": [int("9" * 400)]}, "alpha must be finite"),
    "a rate beyond float64": (
        {"optimizer": {"name": "SGD", "lr": int("9" * 400)}},
        "lr must be finite",
    ),
    "all dropped": (
        {"dropout": [0.0, 1.0], "dropout_seed": 0, "dropout_steps": 0},
        r"dropout\[1\] must be at least 0 and below 1, got 1\.0",
    ),
    "text for a flag": (
        {"optimizer": {"name": "SGD", "momentum": 0.5, "nesterov": "no"}},
        "nesterov must be True or False, got 'no'",
    ),
    "a number for a flag": (
        {"optimizer": {"name": "SGD", "decay_all": 2}},
        "decay_all must be True or False, got 2",
    ),
    "a message of a megabyte": ({"dtype": "x\n\x1b" * 300_000}, r"dtype must be .* \.\.\.$"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(name, path):
    metadata, message = NUMBERS[name]
    rewrite(path, metadata)
    assert_refused(path, message)
    with pytest.raises(ValueError, match="not a fastmlp network") as error:
        MLP.load(path)
    assert len(str(error.value)) < 1000
    assert str(error.value).isprintable()


def test_two_fields_of_one_name(path):
    """Whoever looks at the file might read another than we do."""

    def twice(fields):
        text = fields["__metadata__"]["fastmlp"]
        fields["__metadata__"]["fastmlp"] = re.sub("{", '{"updates": 9, ', text, count=1)

    change(path, twice)
    assert_refused(path, "two fields of one name")


def test_a_number_beyond_float32_is_no_warning(path):
    adagrad = optimizers.Adagrad(initial_accumulator_value=1.0)
    build([3, 2], dtype=np.float32, lr=None, optimizer=adagrad).save(path)
    rewrite(path, {"optimizer": {"name": "Adagrad", "initial_accumulator_value": 1e300}})
    np.testing.assert_array_equal(MLP.load(path).velocities, 1)


@pytest.mark.parametrize("alpha", [-1e-9, 1.0001])
def test_the_layer_refuses_what_the_file_may_not_hold(alpha):
    with pytest.raises(ValueError, match="alpha must be from 0 to 1, a share of the old mean, got"):
        BatchNorm(3, alpha=alpha)


def test_reading_takes_what_the_file_has(tmp_path):
    """The bytes once, and what a network of that size takes itself; no size is believed."""
    mlp = build([300, 400, 10], dtype=np.float32)
    mlp.save(tmp_path / "m")
    size = (tmp_path / "m").stat().st_size
    MLP.load(tmp_path / "m")
    new = peak_memory(lambda: build([300, 400, 10], dtype=np.float32))
    assert peak_memory(lambda: MLP.load(tmp_path / "m")) < size + new + 2**16
