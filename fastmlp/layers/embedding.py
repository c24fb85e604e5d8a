"""Periodic embeddings of the first columns of a network's input."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.embed import EmbeddingSizes, embed_backward, embed_forward
from ..validation import NearestNames, check_count, check_positive, check_word
from ._state import FixedArray, ParameterLayer

MOST = 1024
"""Frequencies or outputs of a column."""


@dataclass(frozen=True)
class PeriodicEmbeddings(NearestNames):
    """Numbers learnt of single columns, for ``MLP(embeddings=...)``: PBLD of RealMLP.

    Each of the first columns x_j keeps its place. Behind the last column follow ``outputs`` numbers
    for each of them, c_jm + sum_k v_jmk * cos(2 pi * w_jk * x_j + b_jk), of ``frequencies`` terms;
    all of w, b, v and c are learnt.

    columns : int
        How many of the first columns of x are embedded.
    frequencies, outputs : int
    sigma : float
        The standard deviation of w at the start, from a normal distribution around 0. b comes from
        -pi ... pi, v and c from -h ... h with h = 1 / sqrt(frequencies), all equally likely.
    seed : int, optional
        Makes these draws repeatable.

    Reference: Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular
    deep learning", 2022; with bias and kept columns Holzmüller, Grinsztajn and Steinwart, "Better
    by default", 2024, appendix A.1.
    Raises ValueError or TypeError, naming what was expected and what came.
    """

    columns: int
    frequencies: int = 16
    outputs: int = 3
    sigma: float = 0.1
    seed: int | None = None

    def __post_init__(self) -> None:
        check_count("columns", self.columns)
        for name in ("frequencies", "outputs"):
            if check_count(name, getattr(self, name)) > MOST:
                raise ValueError(f"{name} must be at most {MOST}, got {getattr(self, name)}")
        check_positive("sigma", self.sigma)
        if self.seed is not None:
            check_word("seed", self.seed)

    @property
    def sizes(self) -> EmbeddingSizes:
        """As kernels take them."""
        return EmbeddingSizes(int(self.columns), int(self.frequencies), int(self.outputs))

    @property
    def width(self) -> int:
        """How many columns come behind those of x."""
        return int(self.columns) * int(self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """As a file holds it; draws are not repeated."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "seed"}

    def draw(self, dtype: Any) -> np.ndarray:
        """All numbers at the start, (P,)."""
        columns, frequencies, outputs = self.sizes
        generator = np.random.default_rng(self.seed)
        most = 1 / np.sqrt(frequencies)
        parts = (
            self.sigma * generator.standard_normal(columns * frequencies),
            generator.uniform(-np.pi, np.pi, columns * frequencies),
            generator.uniform(-most, most, columns * outputs * (frequencies + 1)),
        )
        return np.concatenate(parts).astype(dtype)


class Embedding(ParameterLayer):
    """What ``PeriodicEmbeddings`` describes, at work.

    ``numbers``, their gradients ``dnumbers`` and velocities ``momentum_numbers``, all (P,), are
    fixed arrays that assignment copies into: w and b, (n, H) each, v, (n, M, H), c, (n, M).
    """

    parameters = (("numbers", "dnumbers", "momentum_numbers"),)

    numbers, dnumbers, momentum_numbers = FixedArray(), FixedArray(), FixedArray()

    def __init__(self, kind: PeriodicEmbeddings, dtype: Any) -> None:
        self.kind = kind
        self._set_array("numbers", kind.draw(dtype))
        for name in ("dnumbers", "momentum_numbers"):
            self._set_array(name, np.zeros(kind.sizes.numbers, dtype))
        self._x: np.ndarray | None = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x and the embeddings behind its columns, (N, D + n * M), of the layer's dtype."""
        (numbers,) = self._own("numbers")
        self._x = np.ascontiguousarray(x, numbers.dtype)
        y = np.empty((len(x), x.shape[1] + self.kind.width), numbers.dtype)
        embed_forward(y, self._x, numbers, self.kind.sizes)
        return y

    def backward(self, delta: np.ndarray, scale: float) -> None:
        """Set dnumbers, sums over the rows times scale; delta is the gradient of the output."""
        numbers, dnumbers = self._own("numbers", "dnumbers")
        delta = np.ascontiguousarray(delta, numbers.dtype)
        embed_backward(dnumbers, delta, self._x, numbers, self.kind.sizes, scale)
