"""What a file says of its network: the fields of its metadata, and the tensors they call for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._safetensors import parse_json
from ..initializers import zeros
from ..layers import Criterion, activation_named
from ..layers import loss as criteria
from ..layers.embedding import PeriodicEmbeddings
from ..optimizers import Momentum, Optimizer
from ..optimizers._of_network import from_dict

FORMATS = (1, 2, 3, 4, 5, 6)
"""The versions of the file's layout that `read` knows; `save` writes the first that has all that
the network needs, from 4 on. From 2 on a file may hold what products are computed in, and weights
as bfloat16; from 3 on it has a checksum; from 4 on an optimizer stands in the place of lr, momentum
and weight_decay, and there may be the numbers of activations, layer norm, residual connections,
dropout, scales and embeddings of the input, parametric activations, and a criterion other than
SoftmaxCrossEntropy(); from 5 on an unfinished fit; from 6 on the schema of a table."""

KEY = "fastmlp"

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
DROPOUT: dict[str, tuple[type, ...]] = {
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
    **DROPOUT,
    "criterion": (dict,),
}
_MAYBE_FROM_5: dict[str, tuple[type, ...]] = {"fit": (dict,)}
_MAYBE_FROM_6: dict[str, tuple[type, ...]] = {"schema": (dict,)}
# Up to format 3: HW1P1's rule.
_MOMENTUM = dict.fromkeys(("lr", "momentum", "weight_decay"), (int, float))

LINEAR = ("W", "momentum_W", "b", "momentum_b")
LAYERNORM = ("gamma", "momentum_gamma", "beta", "momentum_beta")
SCALE, MIX = ("scale", "momentum_scale"), ("mix", "momentum_mix")
EMBEDDING = ("numbers", "momentum_numbers")
BATCHNORM = (*LAYERNORM, "running_mean", "running_var")


def format_of(description: dict[str, Any]) -> int:
    """The first that has all of a description's fields, of those that `save` writes."""
    return 6 if "schema" in description else 5 if "fit" in description else 4


def parse(text: str | None) -> dict[str, Any]:
    """The metadata's description of the network, with every field there and of its type."""
    if text is None:
        raise ValueError(f"its metadata must have the key {KEY!r}, as MLP.save writes it")
    description = parse_json(text)
    if not isinstance(description, dict):
        raise ValueError(f"its metadata must be a JSON object, got {text[:80]!r}")
    if description.get("format") not in FORMATS:
        known = " or ".join(map(str, FORMATS))
        raise ValueError(f"its format must be {known}, got {description.get('format')!r}")
    version = description["format"]
    needed = _FIELDS | (_FROM_3 if version >= 3 else {}) | (_FROM_4 if version >= 4 else _MOMENTUM)
    optional = (_FROM_2 if version >= 2 else {}) | (_MAYBE_FROM_4 if version >= 4 else {})
    optional |= _MAYBE_FROM_5 if version >= 5 else {}
    optional |= _MAYBE_FROM_6 if version >= 6 else {}
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


def shapes_of(description: dict[str, Any]) -> dict[str, tuple[int, ...]]:
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
            rows += BATCHNORM
        if k < description.get("num_ln_layers", 0):
            rows += LAYERNORM
        if description.get("parametric_activations", False) and k < len(description["hiddens"]):
            rows += MIX
        shapes |= {f"layers.{k}.{name}": (1, fan_out) for name in rows}
    if description.get("scale_inputs", False):
        shapes |= {f"input.{name}": (first,) for name in SCALE}
    if embeddings is not None:
        shapes |= {f"input.{name}": (embeddings.sizes.numbers,) for name in EMBEDDING}
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


def _criterion_of(description: dict[str, Any]) -> Criterion:
    arguments = dict(description.get("criterion", {"name": "SoftmaxCrossEntropy"}))
    name, known = arguments.pop("name", None), criteria.CRITERIA
    if name not in known:
        raise ValueError(f"its criterion must be one of {', '.join(known)}, got {name!r}")
    return known[name](**arguments)


def _check_lengths(description: dict[str, Any]) -> None:
    """Refuse lists that have not an entry for each layer."""
    layers, norms = len(description["hiddens"]) + 1, description["num_bn_layers"]
    wanted = dict.fromkeys(("activations", "activation_parameters", "dropout"), layers)
    for field, length in (wanted | {"batchnorm_alpha": norms}).items():
        if len(entries := description.get(field, range(length))) != length:
            raise ValueError(f"{field} must have {length} entries, got {len(entries)}")


def mlp_arguments(description: dict[str, Any]) -> dict[str, Any]:
    """The arguments of MLP for a network so described, with zeros for weights."""
    _check_lengths(description)
    names = description["activations"]
    parameters = description.get("activation_parameters", [None] * len(names))
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
