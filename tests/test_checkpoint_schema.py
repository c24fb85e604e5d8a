"""The schema of a table in a network and in its file: kept, or refused."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.datasets import Column, Schema
from tests.checkpoint_files import assert_refused, description_in, rewrite
from tests.networks import build
from tests.test_schema import TREES, WRONG

pytest.importorskip("safetensors", reason="files of networks need safetensors")


@pytest.fixture
def mlp():
    mlp = build([3, 4, 2], dtype=np.float32)
    mlp.schema = TREES
    return mlp


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_a_network_keeps_its_schema(mlp, path):
    mlp.save(path)
    assert description_in(path)["format"] == 6
    loaded = MLP.load(path)
    assert loaded.schema == TREES
    loaded.fit(np.eye(3, dtype=np.float32), [0, 1, 0])
    content = path.read_bytes()
    loaded.save(path, weights_dtype="bfloat16")
    assert len(path.read_bytes()) != len(content)
    for other in (MLP.load(path), copy.copy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert other.schema == TREES
    mlp.save(path)
    assert path.read_bytes() == content


def test_a_network_without_one_is_as_it_was(mlp, path):
    assert build([3, 4, 2]).schema is None
    mlp.schema = None
    mlp.save(path)
    assert description_in(path)["format"] == 4
    assert "schema" not in description_in(path)
    assert MLP.load(path).schema is None


def test_a_schema_beside_an_unfinished_fit(mlp, path):
    from tests.interrupts import Raise

    with pytest.raises(KeyboardInterrupt):
        mlp.fit(
            np.eye(3, dtype=np.float32), [0, 1, 0], epochs=3, batch_size=1,
            callbacks=[Raise("on_epoch_end", 1, KeyboardInterrupt())],
        )  # fmt: skip
    mlp.save(path)
    loaded = MLP.load(path)
    assert loaded.schema == TREES
    assert loaded.unfinished is not None


def test_any_text_may_be_the_name_of_a_class(mlp, path):
    """Also what stands for the checksum while that is taken, and what no encoding has."""
    names = "0" * 64, '\ud800\0\n"é\\'
    mlp.schema = Schema(TREES.columns, ("tree",), names, "float32")
    mlp.save(path)
    assert MLP.load(path).schema.classes == names


def test_the_file_of_format_6_loads_for_ever():
    mlp = MLP.load(Path(__file__).parent / "files" / "format6.safetensors")
    assert repr(mlp) == "MLP(3-4-2, float32, 34 parameters)"
    assert mlp.schema == TREES


IN_FILES = {
    "in format 5": ({"format": 5}, "must have the fields"),
    "in format 4": ({"format": 4}, "must have the fields"),
    "a list": ({"schema": []}, r"the field schema of its metadata is \[\]"),
    "of other fields": ({"schema": {"columns": ["a"]}}, "a schema must have columns, targets, cl"),
    "of fewer features": (
        {"schema": TREES.to_dict() | {"columns": ["height", "leaf"]}}, "must have 3 features, got 2"
    ),
    "of more classes": (
        {"schema": TREES.to_dict() | {"classes": [1, 2, 3]}}, "schema must have 2 classes, got 3"
    ),
    "of fewer targets": (
        {"schema": TREES.to_dict() | {"classes": None}}, "schema must have 2 targets, got 1"
    ),
    **{
        name: ({"schema": {k: v for k, v in (TREES.to_dict() | f).items() if v is not ...}}, says)
        for name, (f, says) in WRONG.items()
    },
}  # fmt: skip


@pytest.mark.parametrize(("metadata", "message"), IN_FILES.values(), ids=IN_FILES)
def test_metadata_with_no_such_schema(metadata, message, mlp, path):
    mlp.save(path)
    rewrite(path, metadata=metadata)
    assert_refused(path, message)


def test_what_a_network_refuses(mlp):
    for schema, message in (
        (Schema(TREES.columns[:1], ("tree",), ("ash", "oak"), "float64"), "must have 3 features"),
        (Schema(TREES.columns, ("tree",), None, "float64"), "schema must have 2 targets, got 1"),
        (Schema(TREES.columns, ("tree",), ("a",), "float64"), "schema must have 2 classes, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            mlp.schema = schema
    with pytest.raises(TypeError, match="schema must be an object of class Schema, got 'trees'"):
        mlp.schema = "trees"
    assert mlp.schema == TREES


def test_a_schema_that_no_file_can_keep_is_refused_where_it_is_set(mlp, path):
    """Quotes and signs beyond ASCII take the most."""
    largest = Schema(TREES.columns, ("tree",), ("é" * 260_000, "oak"), "float64")
    mlp.schema = largest
    mlp.save(path)
    assert MLP.load(path).schema == largest
    with pytest.raises(ValueError, match=r"at most 2,097,152 bytes .* got 2,4\d\d,\d\d\d"):
        mlp.schema = Schema(TREES.columns, ("tree",), ("é" * 350_000, "oak"), "float64")


def test_a_hundred_thousand_columns_fit(path):
    columns = tuple(Column(f"c{number}") for number in range(100_000))
    mlp = build([100_000, 2], dtype=np.float32)
    mlp.schema = Schema(columns, ("y", "z"), None, "float64")
    mlp.save(path)
    assert MLP.load(path).schema.width == 100_000
