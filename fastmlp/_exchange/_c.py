"""A network as a C file of its own: its numbers, and the few loops that they need."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .._files import write_whole
from ..layers import BatchNorm, BinaryCrossEntropy, LayerNorm, PoissonNLL, SoftmaxCrossEntropy
from ..layers.activation import name_of, parameter_of
from . import _c_text
from ._c_table import comment
from ._stages import Stage, check_activations_known, stages_of


def to_c(mlp: Any, path: str | os.PathLike[str], name: str) -> None:
    """See ``MLP.to_c``."""
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z_][A-Za-z_0-9]*", name):
        raise ValueError(f"name must be an identifier of C, got {name!r}")
    check_activations_known(mlp)
    write_whole(Path(path), _Writer(mlp, name).text().encode())


class _Writer:
    """Goes through the layers of a network, and remembers what their code needs."""

    def __init__(self, mlp: Any, name: str) -> None:
        self._mlp, self._name = mlp, name
        self._is_float = mlp.dtype == np.float32
        self._numbers: list[str] = []
        self._functions: dict[str, str] = {}
        self._steps: list[str] = []
        # Of the arrays a and b, which rows of hidden layers lie in, one after the other.
        self._widths = {"a": 0, "b": 0}
        self._read = "x"
        if mlp.embeddings is not None:
            self._embed()
        *hidden, last = stages_of(mlp)
        for i, stage in enumerate(hidden, 1):
            self._layer(str(i), stage, self._free_array(stage.linear.out_feature))
        self._layer(str(mlp.nlayers), last, "y")

    def text(self) -> str:
        """The file."""
        predict = self._predict()
        mlp = self._mlp
        head = _c_text.HEAD.format(
            sizes="-".join(map(str, (mlp.input_size, *mlp.hiddens, mlp.output_size))),
            input=self._input(),
            outputs=self._meaning(),
            use="\n *     int best = net_predict(x);" if predict else "",
            stack=(sum(self._widths.values()) + bool(predict) * mlp.output_size)
            * mlp.dtype.itemsize,
        )
        declarations = _c_text.DECLARATIONS.format(
            inputs=mlp.input_size,
            classes=mlp.output_size,
            prototype="int net_predict(const real *x);\n" if predict else "",
        )
        after = [*self._functions.values(), self._forward(), predict, self._main()]
        # Names in a table are nothing to be spelt.
        before = [self._spelt(head), self._table(), self._spelt(declarations)]
        return "\n".join(
            ["".join(before), *self._numbers, *(self._spelt(part) for part in after if part)]
        )

    def _table(self) -> str:
        return "" if self._mlp.schema is None else comment(self._mlp.schema)

    def _input(self) -> str:
        schema = self._mlp.schema
        if schema is None:
            return "pixels from 0 to 255 are divided by 255 first"
        scaled = ", all of it divided by 255" if schema.dtype == "uint8" else ""
        return f"made from the columns of a table as said below{scaled}"

    def _spelt(self, text: str) -> str:
        return _c_text.spelt(text, self._name, self._is_float)

    def _free_array(self, width: int) -> str:
        """The array that is not read, once it has room for so many numbers."""
        name = "b" if self._read == "a" else "a"
        self._widths[name] = max(self._widths[name], width)
        return name

    def _embed(self) -> None:
        n, h, m = self._mlp.embeddings.sizes
        w, b, v, c = np.split(
            self._mlp._embedding.numbers.astype(np.float64),
            np.cumsum([n * h, n * h, n * m * h]),
        )
        for part, numbers in {"w": w, "b": b / (2 * np.pi), "v": v, "c": c}.items():
            self._store(f"embed_{part}", numbers)
        self._functions["embed"] = _c_text.EMBED.format(n=n, h=h, m=m)
        array = self._free_array(self._mlp.linear_layers[0].in_feature)
        self._steps.append(f"net_embed({array}, x);")
        self._read = array

    def _layer(self, number: str, stage: Stage, write: str) -> None:
        """The steps of a layer from the array that was written last to another one."""
        read, width = self._read, stage.linear.out_feature
        w, b = _folded(stage, self._mlp.input_scale if number == "1" else None)
        self._store(f"w{number}", w)
        self._store(f"b{number}", b)
        self._functions["linear"] = _c_text.LINEAR
        sizes = f"{stage.linear.in_feature}, {width}"
        self._steps.append(f"net_linear({write}, {read}, net_w{number}, net_b{number}, {sizes});")
        if isinstance(stage.norm, LayerNorm):
            self._store(f"gamma{number}", stage.norm.gamma)
            self._store(f"beta{number}", stage.norm.beta)
            self._functions["layer_norm"] = _c_text.LAYER_NORM.format(eps=stage.norm.eps)
            self._steps.append(
                f"net_layer_norm({write}, net_gamma{number}, net_beta{number}, {width});"
            )
        activated = self._activated(stage, f"{write}[j]")
        if stage.mixture is not None:
            self._store(f"mix{number}", stage.mixture.mix)
            self._each(width, f"{write}[j] += net_mix{number}[j] * ({activated} - {write}[j]);")
        elif activated != f"{write}[j]":
            self._each(width, f"{write}[j] = {activated};")
        if stage.adds_input:
            self._each(width, f"{write}[j] += {read}[j];")
        self._read = write

    def _each(self, width: int, statement: str) -> None:
        self._steps.append(f"for (j = 0; j < {width}; j++)\n        {statement}")

    def _activated(self, stage: Stage, z: str) -> str:
        """The activation of z, an expression."""
        name, parameter = name_of(stage.activation), parameter_of(stage.activation)
        if name == "identity":
            return z
        self._functions[name] = _c_text.activation(name, parameter is not None)
        number = "" if parameter is None else f", {self._literal(parameter)}"
        return f"net_{name}({z}{number})"

    def _forward(self) -> str:
        arrays = [f"{name}[{width}]" for name, width in self._widths.items() if width]
        declared = f"    real {', '.join(arrays)};\n" if arrays else ""
        if any(step.startswith("for ") for step in self._steps):
            declared += "    int j;\n"
        steps = "".join(f"    {step}\n" for step in self._steps)
        separator = "\n" if declared else ""
        return f"void net_forward(const real *x, real *y)\n{{\n{declared}{separator}{steps}}}\n"

    def _predict(self) -> str:
        """The function that says which class or label it is, where there is one to say."""
        criterion = type(self._mlp.criterion)
        if criterion is SoftmaxCrossEntropy:
            return _c_text.PREDICT_CLASS
        single = criterion is BinaryCrossEntropy and self._mlp.output_size == 1
        return _c_text.PREDICT_LABEL if single else ""

    def _meaning(self) -> str:
        criterion = type(self._mlp.criterion)
        known = {
            SoftmaxCrossEntropy: "scores of the classes, whose softmax are probabilities",
            BinaryCrossEntropy: "scores of the labels, whose sigmoid are probabilities",
            PoissonNLL: "the logarithms of the rates",
        }
        return known.get(criterion, "the values")

    def _main(self) -> str:
        scan, digits = ("%f", 9) if self._is_float else ("%lf", 17)
        return _c_text.MAIN.replace("SCAN", scan).replace("PRINT", f"%.{digits}g")

    def _store(self, name: str, values: np.ndarray) -> None:
        """An array of the file. Raises ValueError where a number is not finite."""
        with np.errstate(over="ignore"):
            values = values.astype(self._mlp.dtype).reshape(-1)
        if not np.isfinite(values).all():
            raise ValueError(f"all numbers of the network must be finite, got others in {name}")
        literals = [self._literal(value) for value in values.tolist()]
        count = 5 if self._is_float else 4
        lines = (", ".join(literals[i : i + count]) for i in range(0, len(literals), count))
        kind = "float" if self._is_float else "double"
        self._numbers.append(
            f"static const {kind} {self._name}_{name}[{values.size}] = {{\n    "
            + ",\n    ".join(lines)
            + "\n};\n"
        )

    def _literal(self, value: float) -> str:
        """A finite number, of the network's dtype, in hexadecimal: to the bit."""
        mantissa, exponent = float(self._mlp.dtype.type(value)).hex().split("p")
        end = "f" if self._is_float else ""
        return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}{end}"


def _folded(stage: Stage, scale: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """W and b, (D, K) and (K,) float64, with the scales before them and batch norm after them."""
    w = stage.linear.W.astype(np.float64)
    b = np.zeros(w.shape[1]) if stage.linear.b is None else stage.linear.b[0].astype(np.float64)
    if scale is not None:
        w *= scale[:, None]
    if isinstance(stage.norm, BatchNorm):
        gamma, beta, mean, variance = (
            getattr(stage.norm, name)[0].astype(np.float64)
            for name in ("gamma", "beta", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + stage.norm.eps)
        w, b = w * factor, (b - mean) * factor + beta
    return w, b
