"""A network in a file: safetensors, with the architecture as JSON in its metadata.

The file holds all that training goes on from: parameters, velocities, running statistics and
hyper-parameters. A loaded network therefore trains on to the same bits as the one that was saved.
Nothing in the file is ever executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._extras import require
from ._files import write_whole
from .initializers import zeros
from .layers import SoftmaxCrossEntropy, activation_named
from .layers.activation import is_compiled, name_of

if TYPE_CHECKING:
    from .mlp import MLP

FORMATS = (1, 2)
"""The versions of the file's layout that `load` knows. A file is of the first that can say what is
in it: 2 may hold what products are computed in, and weights as bfloat16."""

_KEY = "fastmlp"

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
    "lr": (int, float),
    "momentum": (int, float),
    "weight_decay": (int, float),
}
_ELEMENTS: dict[str, tuple[type, ...]] = {
    "hiddens": (int,),
    "activations": (str,),
    "batchnorm_alpha": (int, float),
}
# Fields of format 2, which need not be there.
_OPTIONAL: dict[str, tuple[type, ...]] = {"compute_dtype": (str,)}

_BATCHNORM = ("gamma", "momentum_gamma", "beta", "momentum_beta", "running_mean", "running_var")

_DTYPES = {"F32": "float32", "F64": "float64", "BF16": "bfloat16"}
# What may be stored as bfloat16: the most of a network.
_WEIGHTS = ("W", "momentum_W")


def save(mlp: MLP, path: str | os.PathLike[str], weights_dtype: str | None = None) -> None:
    """Write the network to path, whole or not at all: what was there before stays until then.

    The tensors are named layers.0.W, layers.0.b, layers.0.gamma, layers.0.running_mean, ..., with
    the velocities beside them as layers.0.momentum_W, .... Equal networks give equal bytes.

    weights_dtype : "bfloat16" rounds the weights and their velocities in the file, which is then
        half as large; the rest stays as it is. A network that computes in bfloat16 predicts the
        same bits afterwards, since its products round the weights anyway.

    Raises ValueError for another weights_dtype, for float64 weights as bfloat16 and for a network
    with layers of the caller's own classes; OSError when the file cannot be written; ImportError
    without safetensors.
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
    if rounds:
        description["format"] = FORMATS[-1]
    tensors = {}
    for name, layer, attribute in _state(mlp):
        array = np.ascontiguousarray(getattr(layer, attribute))
        tensors[name] = _to_bfloat16(array) if rounds and attribute in _WEIGHTS else array
    content = to_bytes(tensors, {_KEY: json.dumps(description)})
    write_whole(path, _declare_bfloat16(content) if rounds else content)


def load(path: str | os.PathLike[str]) -> MLP:
    """The network in a file that `save` wrote, in training mode, as new networks are.

    Raises ValueError, which names the file, when it is not such a file or not whole; OSError when
    it cannot be read; ImportError without safetensors.
    """
    require("safetensors", "io")
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    # For Python's own error where there is no such file: safetensors has none for a folder.
    path.open("rb").close()
    try:
        with safe_open(path, framework="numpy") as file:
            description = _parse((file.metadata() or {}).get(_KEY))
            _check_tensors(file, description)
            names = [name for name in _shapes(description) if not _is_bfloat16(file, name)]
            tensors = {name: file.get_tensor(name) for name in names}
            if len(names) < len(_shapes(description)):
                tensors |= _read_bfloat16(path)
        return _build(description, tensors)
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a fastmlp network: {error}") from error


def _describe(mlp: MLP) -> dict[str, Any]:
    for activation in mlp.activations:
        if not is_compiled(activation):
            raise ValueError(
                "only networks of fastmlp's own layers can be saved, "
                f"got the activation {type(activation).__name__}"
            )
    if type(mlp.criterion) is not SoftmaxCrossEntropy:
        raise ValueError(
            "only networks with SoftmaxCrossEntropy can be saved, "
            f"got {type(mlp.criterion).__name__}"
        )
    # None stands for a network's own dtype, also where that was given by name.
    computes_in = None if mlp.compute_dtype == mlp.dtype.name else mlp.compute_dtype
    return {
        "format": FORMATS[0] if computes_in is None else FORMATS[-1],
        "dtype": mlp.dtype.name,
        "input_size": int(mlp.input_size),
        "output_size": int(mlp.output_size),
        "hiddens": [int(width) for width in mlp.hiddens],
        "activations": [name_of(activation) for activation in mlp.activations],
        "bias": mlp.linear_layers[0].b is not None,
        "num_bn_layers": int(mlp.num_bn_layers),
        "batchnorm_alpha": [float(layer.alpha) for layer in mlp.bn_layers],
        "batchnorm_reduction": mlp.batchnorm_reduction,
        "lr": float(mlp.lr),
        "momentum": float(mlp.momentum),
        "weight_decay": float(mlp.weight_decay),
        **({} if computes_in is None else {"compute_dtype": computes_in}),
    }


def _state(mlp: MLP) -> Iterator[tuple[str, Any, str]]:
    """(name in the file, layer, attribute) of every array that training changes."""
    for k, linear in enumerate(mlp.linear_layers):
        for name in ("W", "momentum_W", "b", "momentum_b"):
            if getattr(linear, name) is not None:
                yield f"layers.{k}.{name}", linear, name
    for k, batchnorm in enumerate(mlp.bn_layers):
        for name in _BATCHNORM:
            yield f"layers.{k}.{name}", batchnorm, name


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
    fields = _FIELDS | (_OPTIONAL if description["format"] > 1 else {})
    if not _FIELDS.keys() <= description.keys() <= fields.keys():
        raise ValueError(
            f"its metadata must have the fields {', '.join(_FIELDS)}, "
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


def _shapes(description: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The tensors that a network so described has."""
    outputs = [*description["hiddens"], description["output_size"]]
    inputs = [description["input_size"], *outputs]
    shapes: dict[str, tuple[int, int]] = {}
    for k, (fan_in, fan_out) in enumerate(zip(inputs, outputs, strict=False)):
        shapes |= {f"layers.{k}.{name}": (fan_in, fan_out) for name in ("W", "momentum_W")}
        rows = ["b", "momentum_b"] if description["bias"] else []
        if k < description["num_bn_layers"]:
            rows += _BATCHNORM
        shapes |= {f"layers.{k}.{name}": (1, fan_out) for name in rows}
    return shapes


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


def _build(description: dict[str, Any], tensors: dict[str, np.ndarray]) -> MLP:
    from .mlp import MLP

    mlp = MLP(
        description["input_size"],
        description["output_size"],
        description["hiddens"],
        [activation_named(name) for name in description["activations"]],
        lambda fan_in, fan_out: np.zeros((fan_in, fan_out)),
        zeros if description["bias"] else None,
        SoftmaxCrossEntropy(),
        description["lr"],
        description["momentum"],
        description["num_bn_layers"],
        dtype=np.dtype(description["dtype"]),
        weight_decay=description["weight_decay"],
        batchnorm_reduction=description["batchnorm_reduction"],
        compute_dtype=description.get("compute_dtype"),
    )
    for name, layer, attribute in _state(mlp):
        setattr(layer, attribute, tensors[name])
    alphas = description["batchnorm_alpha"]
    if len(alphas) != len(mlp.bn_layers):
        raise ValueError(
            f"batchnorm_alpha must have {len(mlp.bn_layers)} entries, got {len(alphas)}"
        )
    for layer, alpha in zip(mlp.bn_layers, alphas, strict=True):
        layer.alpha = alpha
    return mlp


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
