"""Files of networks: what is in one, and others made of it."""

import hashlib
import json
import struct

import pytest

from fastmlp import MLP
from tests.networks import batch, build


def trained():
    """A network with a batch norm, after two epochs."""
    mlp = build([5, 7, 3], num_bn_layers=1, momentum=0.9)
    fit(mlp)
    return mlp


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


def assert_refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        MLP.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
