"""Networks that MLP.save wrote, in all formats."""

import contextlib
import hashlib
import json
import re
import warnings
from pathlib import Path

import numpy as np

from fastmlp import MLP, optimizers
from fastmlp.callbacks import EarlyStopping
from fastmlp.datasets import Column, Schema
from fastmlp.history import NotFiniteWarning
from fastmlp.layers import LeakyReLU, Quantile, ReLU, Softplus, Tanh
from fastmlp.layers.embedding import PeriodicEmbeddings
from tests.mutation import VALUES, mutated, mutated_json
from tests.networks import batch, build

FILES = Path(__file__).parents[1] / "files"


def _networks():
    adam = optimizers.Adam(1e-3, average=0.9, clip_norm=1.0, rate_factors={"biases": 0.1})
    embedded = {"embeddings": PeriodicEmbeddings(2, 3, 2), "scale_inputs": True}
    yield build([3, 4, 2], dtype=np.float32, num_bn_layers=1, momentum=0.9)
    yield build([3, 3, 2], [Tanh, LeakyReLU], lr=None, optimizer=adam, residual=True,
                num_ln_layers=1, dropout=0.5)  # fmt: skip
    nesterov = optimizers.SGD(0.1, 0.9, nesterov=True)
    mlp = build([3, 4, 2], [Softplus, ReLU], dtype=np.float32, lr=None, optimizer=nesterov,
                parametric_activations=True, **embedded)  # fmt: skip
    mlp.criterion = Quantile(0.25)
    yield mlp
    adagrad = optimizers.Adagrad(initial_accumulator_value=0.5)
    yield build([3, 2], dtype=np.float32, lr=None, optimizer=adagrad)
    mlp = build([3, 2], dtype=np.float32)
    mlp.schema = Schema(
        (Column("height"), Column("leaf", ("long", "round"))), ("tree",), ("ash", "oak"), "float64"
    )
    yield mlp
    yield _unfinished()


class _Interrupt:
    """Ctrl-C in the second epoch."""

    def on_epoch_end(self, mlp, history):
        if len(history.train_loss) == 2:
            raise KeyboardInterrupt


def _go_on(mlp, resume, *callbacks):
    """Of the fit of ``_unfinished``."""
    x, labels, _ = batch(20, 3, 2, dtype=np.float32)
    mlp.fit(
        x, labels, epochs=4, batch_size=5, seed=0, validation_data=(x, labels), resume=resume,
        callbacks=[EarlyStopping(3), *callbacks],
    )  # fmt: skip


def _unfinished():
    mlp = build([3, 4, 2], dtype=np.float32, dropout=0.5, num_bn_layers=1)
    with contextlib.suppress(KeyboardInterrupt):
        _go_on(mlp, False, _Interrupt())
    return mlp


def prepare_network(folder):
    files = [path.read_bytes() for path in sorted(FILES.glob("format*.safetensors"))]
    path = folder / "network.safetensors"
    for mlp in _networks():
        for dtype in (None, "bfloat16") if mlp.dtype == np.float32 else (None,):
            mlp.save(path, dtype)
            files.append(path.read_bytes())
    return files, _read_network


def _read_network(path):
    mlp = MLP.load(path)
    mlp.predict(np.ones((2, mlp.input_size), mlp.dtype))
    if mlp.unfinished is not None and mlp.input_size == 3:
        # Numbers of any size are numbers; what is not that fit's is refused.
        with (
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
            contextlib.suppress(ValueError, TypeError),
        ):
            warnings.simplefilter("ignore", NotFiniteWarning)
            _go_on(mlp, True)


def network_mutant(rng, files):
    content = rng.choice(files)
    way = rng.randrange(8)
    if way == 0:
        return mutated(rng, content, files)
    size = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + size], content[8 + size :]
    if way == 1:
        return with_checksum(mutated(rng, header), data)
    fields = json.loads(header)
    description = json.loads(fields["__metadata__"]["fastmlp"])
    if way == 2:
        data = mutated(rng, data)
    elif way == 3:
        fields = mutated_json(rng, fields)
    elif way == 4:
        text = mutated(rng, json.dumps(description).encode()).decode("utf-8", "replace")
        fields["__metadata__"]["fastmlp"] = text
    else:
        for _ in range(rng.choice((1, 1, 2, 3))):
            if isinstance(description, (dict, list)):
                description = mutated_json(rng, description)
        if rng.randrange(10) == 0 and isinstance(description, dict):
            description[rng.choice(("hiddens", "activations", "dropout"))] = [
                rng.choice(VALUES)
            ] * 3000
        fields["__metadata__"]["fastmlp"] = json.dumps(description)
    return with_checksum(json.dumps(fields).encode(), data)


def with_checksum(header, data):
    """A safetensors file whose header's size fits, and its checksum where it has one."""
    header += b" " * (-len(header) % 8)
    start = len(header).to_bytes(8, "little")
    found = re.search(rb'sha256\\": \\"([0-9a-f]{64})', header)
    if found:
        zeros = header[: found.start(1)] + b"0" * 64 + header[found.end(1) :]
        digest = hashlib.sha256(start + zeros + data).hexdigest().encode()
        header = zeros.replace(b"0" * 64, digest, 1)
    return start + header + data
