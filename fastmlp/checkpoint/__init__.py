"""A network in a file: safetensors, with the architecture as JSON in its metadata.

The file holds all that training goes on from: parameters, velocities, running statistics and
hyper-parameters; and, of a fit that is not at its end, all that it needs to go on. A loaded
network therefore trains on to the same bits as the one that was saved. Nothing in the file is ever
executed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._extras import require
from .._files import check_there, in_one_line, write_whole
from .._fit_state import FitState
from .._safetensors import check_header_size, read_header
from ..datasets import Schema
from ..layers import Criterion, SoftmaxCrossEntropy
from ..layers import activation as activations
from ..layers import loss as criteria
from ..optimizers._of_network import to_dict
from ..validation import check_word
from ._content import (
    NO_CHECKSUM,
    WEIGHTS,
    check_content,
    check_tensors,
    declare_bfloat16,
    to_bfloat16,
    with_checksum,
)
from ._description import (
    BATCHNORM,
    DROPOUT,
    EMBEDDING,
    KEY,
    LAYERNORM,
    LINEAR,
    MIX,
    SCALE,
    format_of,
    mlp_arguments,
    parse,
)
from ._unfinished import PREFIX, fit_from_file, fit_to_file


class Saved(NamedTuple):
    """A network in a file: what makes it, and what training has made of it."""

    arguments: dict[str, Any]  # of MLP
    alphas: list[float]  # of the batch norms
    updates: int  # that training has made
    dropout_steps: int  # forward passes that have dropped anything
    tensors: dict[str, np.ndarray]  # by the names of ``arrays_of``
    unfinished: FitState | None = None
    schema: Schema | None = None


def save(mlp: Any, path: str | os.PathLike[str], weights_dtype: str | None = None) -> None:
    """Write the network to path, whole or not at all: what was there before stays until then.

    The tensors are named layers.0.W, layers.0.b, layers.0.gamma, layers.0.running_mean, ..., with
    the velocities beside them as layers.0.momentum_W, .... Equal networks give equal bytes. A
    symbolic link stays one, and a file that was there before hands on its permissions. An
    unfinished fit is in it, too: where it stands in the metadata, its arrays as fit.losses, ....
    So is the schema of a table.

    weights_dtype : "bfloat16" rounds the weights and their velocities in the file, which is then
        half as large; the rest stays as it is. A network that computes in bfloat16 predicts the
        same bits afterwards, since its products round the weights anyway. An unfinished fit, which
        could not go on from them to the same bits, is left out.

    Raises ValueError for another weights_dtype, for float64 weights as bfloat16, for a network
    with layers or an update rule of the caller's own, and for one of more than some 10,000 layers;
    TypeError for a callback whose state JSON and arrays cannot hold; OSError, which names the file,
    when it cannot be written; ImportError without safetensors.
    """
    require("safetensors", "io")
    from safetensors.numpy import save as to_bytes

    path = Path(path)
    rounds = weights_dtype == "bfloat16"
    if weights_dtype not in (None, mlp.dtype.name) and not (rounds and mlp.dtype == np.float32):
        raise ValueError(
            f"weights_dtype must be {mlp.dtype} or, of float32 weights, bfloat16, "
            f"got {weights_dtype!r}"
        )
    description, tensors = _describe(mlp), {}
    for name, layer, attribute in arrays_of(mlp):
        array = np.ascontiguousarray(getattr(layer, attribute))
        tensors[name] = to_bfloat16(array) if rounds and attribute in WEIGHTS else array
    # What follows is behind the checksum, whose place is the first that looks like one.
    if mlp.schema is not None:
        description["schema"] = mlp.schema.to_dict()
    unfinished = None if rounds else mlp.unfinished
    if unfinished is not None:
        description["fit"], arrays = fit_to_file(unfinished)
        tensors |= arrays
    description = {"format": format_of(description)} | description
    # One key only: safetensors writes several in any order.
    content = to_bytes(tensors, {KEY: json.dumps(description)})
    check_header_size(content)
    write_whole(path, with_checksum(declare_bfloat16(content) if rounds else content))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """What is found to be wrong with a file's content becomes a ValueError that names the file."""
    try:
        # A number beyond the range of float32 becomes an infinity there.
        with np.errstate(all="ignore"):
            yield
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a fastmlp network: {in_one_line(error)}") from error


def read(path: str | os.PathLike[str]) -> Saved:
    """What `save` wrote.

    Raises ValueError or TypeError when it is not such a file, not whole, or changed since; OSError
    when it cannot be read.
    """
    check_there(Path(path))
    with Path(path).open("rb") as file:
        header = read_header(file)
        description = parse(header.metadata.get(KEY))
        check_tensors(header.tensors, description)
        data = header.read_data(file)
    check_content(header.content, data, description)
    tensors = {name: tensor.array(data) for name, tensor in header.tensors.items()}
    updates = check_word("updates", description.get("updates", 0), bits=62)
    masks = check_word("dropout_steps", description.get("dropout_steps", 0))
    alphas = description["batchnorm_alpha"]
    fit = None
    if "fit" in description:
        # Copies: callbacks may write to theirs.
        of_fit = [name for name in tensors if name.startswith(PREFIX)]
        fit = fit_from_file(description["fit"], {n: tensors.pop(n).copy() for n in of_fit})
    schema = Schema.from_dict(description["schema"]) if "schema" in description else None
    return Saved(mlp_arguments(description), alphas, updates, masks, tensors, fit, schema)


def _describe(mlp: Any) -> dict[str, Any]:
    for activation in mlp.activations:
        if activations.is_own(activation):
            raise ValueError(
                "only networks of fastmlp's own layers can be saved, since a file keeps no "
                f"functions, got the activation {activation!r}"
            )
        if not activations.is_compiled(activation):
            raise ValueError(
                "only networks of fastmlp's own layers can be saved, "
                f"got the activation {type(activation).__name__}"
            )
    usual, criterion = (_criterion_to_dict(c) for c in (SoftmaxCrossEntropy(), mlp.criterion))
    # None stands for a network's own dtype, also where that was given by name.
    computes_in = None if mlp.compute_dtype == mlp.dtype.name else mlp.compute_dtype
    # One per layer, None for activations that have no such number.
    parameters = [activations.parameter_of(activation) for activation in mlp.activations]
    return {
        "dtype": mlp.dtype.name,
        "input_size": int(mlp.input_size),
        "output_size": int(mlp.output_size),
        "hiddens": [int(width) for width in mlp.hiddens],
        "activations": [activations.name_of(activation) for activation in mlp.activations],
        "bias": mlp.linear_layers[0].b is not None,
        "num_bn_layers": int(mlp.num_bn_layers),
        "batchnorm_alpha": [float(layer.alpha) for layer in mlp.bn_layers],
        "batchnorm_reduction": mlp.batchnorm_reduction,
        "optimizer": to_dict(mlp.optimizer),
        "updates": int(mlp.updates),
        **({} if computes_in is None else {"compute_dtype": computes_in}),
        **({"activation_parameters": parameters} if any(p is not None for p in parameters) else {}),
        **({} if criterion == usual else {"criterion": criterion}),
        **({"num_ln_layers": mlp.num_ln_layers} if mlp.num_ln_layers else {}),
        **({"residual": True} if mlp.residual else {}),
        **({"scale_inputs": True} if mlp.scale_inputs else {}),
        **({"embeddings": mlp.embeddings.to_dict()} if mlp.embeddings is not None else {}),
        **({"parametric_activations": True} if mlp.parametric_activations else {}),
        **({name: getattr(mlp, name) for name in DROPOUT} if mlp.drops else {}),
        "sha256": NO_CHECKSUM,
    }


def arrays_of(mlp: Any) -> Iterator[tuple[str, Any, str]]:
    """(name in the file, layer or network, attribute) of every array that training changes."""
    for name in ("squares", "averages"):
        if getattr(mlp, name).size > 0:
            yield f"optimizer.{name}", mlp, name
    fronts: tuple[tuple[Any, tuple[str, ...]], ...] = (
        (mlp._embedding, EMBEDDING),
        (mlp._scale, SCALE),
    )
    for front, names in fronts:
        for name in () if front is None else names:
            yield f"input.{name}", front, name
    kinds: tuple[tuple[Any, tuple[str, ...]], ...] = (
        (mlp.linear_layers, LINEAR),
        (mlp.bn_layers, BATCHNORM),
        (mlp.ln_layers, LAYERNORM),
        (mlp._mixes, MIX),
    )
    for layers, names in kinds:
        for k, layer in enumerate(layers):
            for name in names:
                if getattr(layer, name) is not None:
                    yield f"layers.{k}.{name}", layer, name


def _criterion_to_dict(criterion: Criterion) -> dict[str, Any]:
    """A criterion as JSON can hold it: its class by name, and its arguments."""
    if type(criterion) not in criteria.CRITERIA.values():
        own = criteria.is_own(criterion)
        raise ValueError(
            "only networks with fastmlp's own criteria can be saved, "
            + ("since a file keeps no functions, " if own else "")
            + f"got the criterion {criterion if own else type(criterion).__name__}"
        )
    arguments = criteria.arguments_of(criterion)
    return {"name": type(criterion).__name__, **arguments}
