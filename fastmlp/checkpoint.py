"""A network in a file: safetensors, with the architecture as JSON in its metadata.

The file holds all that training goes on from: parameters, velocities, running statistics and
hyper-parameters. A loaded network therefore trains on to the same bits as the one that was saved.
Nothing in the file is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._extras import require
from ._files import write_whole
from .initializers import zeros
from .layers import Criterion, SoftmaxCrossEntropy, activation_named
from .layers import activation as activations
from .layers import loss as criteria
from .layers.embedding import PeriodicEmbeddings
from .optimizers import Momentum, Optimizer
from .optimizers._of_network import from_dict, to_dict
from .validation import check_word

FORMATS = (1, 2, 3, 4)
"""The versions of the file's layout that `read` knows; `save` writes the last. From 2 on a file may
hold what products are computed in, and weights as bfloat16; from 3 on it has a checksum; from 4 on
an optimizer stands in the place of lr, momentum and weight_decay, and there may be the numbers of
activations, layer norm, residual connections, dropout, scales and embeddings of the input,
parametric activations, and a criterion other than SoftmaxCrossEntropy()."""

_KEY = "fastmlp"

# What the field sha256 holds while the checksum of the file is taken.
_NO_CHECKSUM = "0" * 64

# The metadata's fields, and the types that json gives them.
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "dtype": (str,),
    "input_size": (int,),
    "output_size": (int,),
    "hiddens": (list,),
    "activations": (list,),
    "bias": (bool,),
    "num_bn_layers": (int,),
    "batchnorm_alpha": (list,),
    "batchnorm_reduction": (str,),
}
# Those that are arguments of MLP as they are.
_ARGUMENTS = "input_size", "output_size", "hiddens", "num_bn_layers", "batchnorm_reduction"
_ELEMENTS: dict[str, tuple[type, ...]] = {
    "hiddens": (int,),
    "activations": (str,),
    "batchnorm_alpha": (int, float),
    "activation_parameters": (int, float, type(None)),
    "dropout": (int, float),
}
# Fields of formats from 2 and from 4 on, which need not be there, and from 3 on, which must.
_FROM_2: dict[str, tuple[type, ...]] = {"compute_dtype": (str,)}
_FROM_3: dict[str, tuple[type, ...]] = {"sha256": (str,)}
_FROM_4: dict[str, tuple[type, ...]] = {"optimizer": (dict,), "updates": (int,)}
_DROPOUT: dict[str, tuple[type, ...]] = {
    "dropout": (list,),
    "dropout_seed": (int,),
    "dropout_steps": (int,),
}
_MAYBE_FROM_4 = {
    "activation_parameters": (list,),
    "num_ln_layers": (int,),
    "residual": (bool,),
    "scale_inputs": (bool,),
    "parametric_activations": (bool,),
    "embeddings": (dict,),
    **_DROPOUT,
    "criterion": (dict,),
}
# Up to format 3: HW1P1's rule.
_MOMENTUM = dict.fromkeys(("lr", "momentum", "weight_decay"), (int, float))

_LINEAR = ("W", "momentum_W", "b", "momentum_b")
_LAYERNORM = ("gamma", "momentum_gamma", "beta", "momentum_beta")
_SCALE, _MIX = ("scale", "momentum_scale"), ("mix", "momentum_mix")
_EMBEDDING = ("numbers", "momentum_numbers")
_BATCHNORM = (*_LAYERNORM, "running_mean", "running_var")

_DTYPES = {"F32": "float32", "F64": "float64", "BF16": "bfloat16"}
# What may be stored as bfloat16: the most of a network.
_WEIGHTS = ("W", "momentum_W")


class Saved(NamedTuple):
    """A network in a file: what makes it, and what training has made of it."""

    arguments: dict[str, Any]  # of MLP
    alphas: list[float]  # of the batch norms
    updates: int  # that training has made
    dropout_steps: int  # forward passes that have dropped anything
    tensors: dict[str, np.ndarray]  # by the names of ``arrays_of``


def save(mlp: Any, path: str | os.PathLike[str], weights_dtype: str | None = None) -> None:
    """Write the network to path, whole or not at all: what was there before stays until then.

    The tensors are named layers.0.W, layers.0.b, layers.0.gamma, layers.0.running_mean, ..., with
    the velocities beside them as layers.0.momentum_W, .... Equal networks give equal bytes. A
    symbolic link stays one, and a file that was there before hands on its permissions.

    weights_dtype : "bfloat16" rounds the weights and their velocities in the file, which is then
        half as large; the rest stays as it is. A network that computes in bfloat16 predicts the
        same bits afterwards, since its products round the weights anyway.

    Raises ValueError for another weights_dtype, for float64 weights as bfloat16 and for a network
    with layers or an update rule of the caller's own; OSError, which names the file, when it cannot
    be written; ImportError without safetensors.
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
    description = _describe(mlp)
    tensors = {}
    for name, layer, attribute in arrays_of(mlp):
        array = np.ascontiguousarray(getattr(layer, attribute))
        tensors[name] = _to_bfloat16(array) if rounds and attribute in _WEIGHTS else array
    # One key only: safetensors writes several in any order.
    content = to_bytes(tensors, {_KEY: json.dumps(description)})
    write_whole(path, _with_checksum(_declare_bfloat16(content) if rounds else content))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """What is found to be wrong with a file's content becomes a ValueError that names the file."""
    try:
        yield
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a fastmlp network: {error}") from error


def read(path: str | os.PathLike[str]) -> Saved:
    """What `save` wrote.

    Raises ValueError when it is not such a file, not whole, or changed since; OSError when it
    cannot be read; ImportError without safetensors.
    """
    require("safetensors", "io")
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    # For Python's own error where there is no such file: safetensors has none for a folder.
    path.open("rb").close()
    try:
        with safe_open(path, framework="numpy") as file:
            description = _parse((file.metadata() or {}).get(_KEY))
            _check_content(path, description)
            _check_tensors(file, description)
            names = [name for name in _shapes(description) if not _is_bfloat16(file, name)]
            tensors = {name: file.get_tensor(name) for name in names}
            if len(names) < len(_shapes(description)):
                tensors |= _read_bfloat16(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    updates = description.get("updates", 0)
    masks = check_word("dropout_steps", description.get("dropout_steps", 0))
    alphas = description["batchnorm_alpha"]
    return Saved(_arguments(description), alphas, updates, masks, tensors)


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
        "format": FORMATS[-1],
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
        **({name: getattr(mlp, name) for name in _DROPOUT} if mlp.drops else {}),
        "sha256": _NO_CHECKSUM,
    }


def arrays_of(mlp: Any) -> Iterator[tuple[str, Any, str]]:
    """(name in the file, layer or network, attribute) of every array that training changes."""
    for name in ("squares", "averages"):
        if getattr(mlp, name).size > 0:
            yield f"optimizer.{name}", mlp, name
    fronts: tuple[tuple[Any, tuple[str, ...]], ...] = (
        (mlp._embedding, _EMBEDDING),
        (mlp._scale, _SCALE),
    )
    for front, names in fronts:
        for name in () if front is None else names:
            yield f"input.{name}", front, name
    kinds: tuple[tuple[Any, tuple[str, ...]], ...] = (
        (mlp.linear_layers, _LINEAR),
        (mlp.bn_layers, _BATCHNORM),
        (mlp.ln_layers, _LAYERNORM),
        (mlp._mixes, _MIX),
    )
    for layers, names in kinds:
        for k, layer in enumerate(layers):
            for name in names:
                if getattr(layer, name) is not None:
                    yield f"layers.{k}.{name}", layer, name


def _parse(text: str | None) -> dict[str, Any]:
    """The metadata's description of the network, with every field there and of its type."""
    if text is None:
        raise ValueError(f"its metadata must have the key {_KEY!r}, as MLP.save writes it")
    description = json.loads(text)
    if not isinstance(description, dict):
        raise ValueError(f"its metadata must be a JSON object, got {text[:80]!r}")
    if description.get("format") not in FORMATS:
        known = " or ".join(map(str, FORMATS))
        raise ValueError(f"its format must be {known}, got {description.get('format')!r}")
    version = description["format"]
    needed = _FIELDS | (_FROM_3 if version >= 3 else {}) | (_FROM_4 if version >= 4 else _MOMENTUM)
    optional = (_FROM_2 if version >= 2 else {}) | (_MAYBE_FROM_4 if version >= 4 else {})
    fields = needed | optional
    if not needed.keys() <= description.keys() <= fields.keys():
        raise ValueError(
            f"its metadata must have the fields {', '.join(needed)}, "
            f"got {', '.join(map(str, description))}"
        )
    for field, value in description.items():
        elements = value if field in _ELEMENTS and isinstance(value, list) else []
        if type(value) not in fields[field] or any(
            type(element) not in _ELEMENTS[field] for element in elements
        ):
            raise ValueError(f"the field {field} of its metadata is {value!r}")
    if description["dtype"] not in ("float32", "float64"):
        raise ValueError(f"its dtype must be float32 or float64, got {description['dtype']!r}")
    return description


def _shapes(description: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors that a network so described has."""
    outputs = [*description["hiddens"], description["output_size"]]
    embeddings = _embeddings_of(description)
    first = description["input_size"] + (0 if embeddings is None else embeddings.width)
    inputs = [first, *outputs]
    shapes: dict[str, tuple[int, ...]] = {}
    for k, (fan_in, fan_out) in enumerate(zip(inputs, outputs, strict=False)):
        shapes |= {f"layers.{k}.{name}": (fan_in, fan_out) for name in ("W", "momentum_W")}
        rows = ["b", "momentum_b"] if description["bias"] else []
        if k < description["num_bn_layers"]:
            rows += _BATCHNORM
        if k < description.get("num_ln_layers", 0):
            rows += _LAYERNORM
        if description.get("parametric_activations", False) and k < len(description["hiddens"]):
            rows += _MIX
        shapes |= {f"layers.{k}.{name}": (1, fan_out) for name in rows}
    if description.get("scale_inputs", False):
        shapes |= {f"input.{name}": (first,) for name in _SCALE}
    if embeddings is not None:
        shapes |= {f"input.{name}": (embeddings.sizes.numbers,) for name in _EMBEDDING}
    optimizer = _optimizer_of(description)
    kept = {"squares": optimizer.states == 2, "averages": optimizer.average is not None}
    learnt = "W", "b", "gamma", "beta", "mix", "scale", "numbers"
    size = sum(math.prod(shapes[name]) for name in shapes if name.rpartition(".")[2] in learnt)
    return shapes | {f"optimizer.{name}": (size,) for name, wanted in kept.items() if wanted}


def _optimizer_of(description: dict[str, Any]) -> Optimizer:
    if "optimizer" in description:
        return from_dict(description["optimizer"])
    return Momentum(**{name: description[name] for name in _MOMENTUM})


def _embeddings_of(description: dict[str, Any]) -> PeriodicEmbeddings | None:
    arguments = description.get("embeddings")
    return None if arguments is None else PeriodicEmbeddings(**arguments)


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


def _criterion_of(description: dict[str, Any]) -> Criterion:
    arguments = dict(description.get("criterion", {"name": "SoftmaxCrossEntropy"}))
    name, known = arguments.pop("name", None), criteria.CRITERIA
    if name not in known:
        raise ValueError(f"its criterion must be one of {', '.join(known)}, got {name!r}")
    return known[name](**arguments)


def _check_tensors(file: Any, description: dict[str, Any]) -> None:
    """Refuse missing, additional and misshapen tensors before any memory is taken for them."""
    shapes, held = _shapes(description), set(file.keys())
    if missing := sorted(shapes.keys() - held):
        raise ValueError(f"it lacks {', '.join(missing)}")
    if additional := sorted(held - shapes.keys()):
        raise ValueError(f"it must not hold {', '.join(additional)}")
    for name, shape in shapes.items():
        tensor = file.get_slice(name)
        dtype = _DTYPES.get(tensor.get_dtype(), tensor.get_dtype())
        found = tuple(tensor.get_shape())
        rounded = dtype == "bfloat16" and name.endswith(_WEIGHTS) and description["format"] > 1
        expected = dtype if rounded and description["dtype"] == "float32" else description["dtype"]
        if found != shape or dtype != expected:
            raise ValueError(f"{name} must be {shape} {description['dtype']}, got {found} {dtype}")


def _arguments(description: dict[str, Any]) -> dict[str, Any]:
    """The arguments of MLP for a network so described, with zeros for weights."""
    alphas = description["batchnorm_alpha"]
    if len(alphas) != description["num_bn_layers"]:
        raise ValueError(
            f"batchnorm_alpha must have {description['num_bn_layers']} entries, got {len(alphas)}"
        )
    names = description["activations"]
    parameters = description.get("activation_parameters", [None] * len(names))
    if len(parameters) != len(names):
        raise ValueError(
            f"activation_parameters must have {len(names)} entries, one per layer, "
            f"got {len(parameters)}"
        )
    return {
        **{name: description[name] for name in _ARGUMENTS},
        "activations": list(map(activation_named, names, parameters)),
        "weight_init_fn": lambda fan_in, fan_out: np.zeros((fan_in, fan_out)),
        "bias_init_fn": zeros if description["bias"] else None,
        "criterion": _criterion_of(description),
        "optimizer": _optimizer_of(description),
        "dtype": np.dtype(description["dtype"]),
        "compute_dtype": description.get("compute_dtype"),
        "num_ln_layers": description.get("num_ln_layers", 0),
        "residual": description.get("residual", False),
        "scale_inputs": description.get("scale_inputs", False),
        "parametric_activations": description.get("parametric_activations", False),
        "embeddings": _embeddings_of(description),
        "dropout": description.get("dropout", 0.0),
        "dropout_seed": description.get("dropout_seed"),
    }


def _with_checksum(content: bytes) -> bytes:
    """The file with the checksum of its own bytes in the place kept for it."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(_NO_CHECKSUM.encode(), digest.encode(), 1)


def _check_content(path: Path, description: dict[str, Any]) -> None:
    """Raise ValueError where the file's bytes are not those that `save` wrote."""
    if description["format"] < 3:
        return
    checksum = description["sha256"].encode()
    content = path.read_bytes().replace(checksum, _NO_CHECKSUM.encode(), 1)
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError("its checksum does not fit: the file has been changed or damaged")


def _to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16s, ties to even, as uint16."""
    bits = array.view(np.uint32)
    odd = bits >> 16 & 1
    # A carry would make an infinity, or a zero, of a NaN.
    rounded = np.where(np.isnan(array), bits | 0x400000, bits + (0x7FFF + odd))
    return (rounded >> 16).astype(np.uint16)


def _declare_bfloat16(content: bytes) -> bytes:
    """The file with its tensors of uint16, for which NumPy has no better name, called BF16.

    A file begins with the size of its header, 8 bytes, and the header, JSON filled up with spaces.
    """
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip().replace(b'"dtype":"U16"', b'"dtype":"BF16"')
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _is_bfloat16(file: Any, name: str) -> bool:
    return bool(file.get_slice(name).get_dtype() == "BF16")


def _read_bfloat16(path: Path) -> dict[str, np.ndarray]:
    """The tensors of bfloat16 in a file, as float32."""
    from safetensors import deserialize

    tensors = {}
    for name, tensor in deserialize(path.read_bytes()):
        if tensor["dtype"] == "BF16":
            bits = np.frombuffer(tensor["data"], np.uint16).astype(np.uint32) << 16
            tensors[name] = bits.view(np.float32).reshape(tensor["shape"])
    return tensors
