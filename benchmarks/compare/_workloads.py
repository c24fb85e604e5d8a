"""What is compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from fastmlp.presets import PRESETS

from ..networks import NETWORKS, Network

LIBRARIES = (
    "torch", "torch-compile", "torch-bf16", "jax", "numpy-f32", "numpy-f64", "sklearn",
)  # fmt: skip
# Whoever computes in bfloat16, and fastmlp itself without it.
ROUNDING = ("fastmlp-float32", "torch-bf16", "torch-pure-bf16", "jax-bf16")


@dataclass(frozen=True)
class Workload:
    """A task that every peer does alike.

    kind : "train" epochs of mini-batches; "course" HW1P1's get_training_stats; "inference" calls of
        predict; "record" a whole training to an accuracy
    unit : what ``repeats`` of are timed in a round; figures are seconds per unit
    rows : of a call, inference only
    rounds : at least so many, however many are asked for
    compute_dtype : of fastmlp's products, where not the dtype
    peers : who takes part beside fastmlp
    libxsmm : share of the FMA peak that LIBXSMM-DNN reached on the reference machine
    """

    name: str
    label: str
    kind: str
    network: Network
    unit: str = "epoch"
    repeats: int = 1
    rows: int = 0
    dtype: str = "float32"
    rounds: int = 0
    compute_dtype: str | None = None
    peers: tuple[str, ...] = LIBRARIES
    libxsmm: float | None = None
    quick: bool = False

    @property
    def samples(self) -> int:
        """Rows that a unit works on."""
        if self.kind == "inference":
            return self.rows
        return self.network.samples or 60_000

    @property
    def flops(self) -> float:
        """Of a unit."""
        if self.kind == "inference":
            return self.network.inference_flops_per_sample * self.rows
        training = self.network.flops_per_sample * self.samples
        if self.kind == "course":
            return training + self.network.inference_flops_per_sample * COURSE_VALIDATION
        return training

    @property
    def bytes(self) -> float:
        """The least that a unit must move if nothing stays in cache from step to step.

        Every input is read once, and per step weights and velocities are read and written
        once; for inference, the weights are read once per call.
        """
        size = 8 if self.dtype == "float64" else 4
        sizes = self.network.sizes
        weights = sum(a * b for a, b in pairwise(sizes))
        if self.kind == "inference":
            return size * (self.rows * sizes[0] + weights)
        steps = self.samples / self.network.batch_size
        return size * (self.samples * sizes[0] + 4 * steps * weights)

    def shortened(self) -> Workload:
        """The same on a part of the data, for a rough answer."""
        if self.kind in ("inference", "record"):
            return replace(self, repeats=max(1, self.repeats // 4))
        samples = min(self.samples, max(6_400, self.network.batch_size))
        return replace(self, network=replace(self.network, samples=samples))


COURSE_VALIDATION = 5_000

_FIRST = NETWORKS["784-512-512-10"]
_COURSE = Network((784, 32, 32, 32, 10), "sigmoid", 100, 1e-3, samples=55_000, momentum=0.856)
_SPEEDRUN = PRESETS["speedrun"]
_RECORD = Network(
    (784, *_SPEEDRUN.hidden, 10), "relu", _SPEEDRUN.batch_size, _SPEEDRUN.lr,
    samples=(_SPEEDRUN.max_steps or 0) * _SPEEDRUN.batch_size,
)  # fmt: skip
_SELF = ("fastmlp-1-thread",)


def _training(name: str, activation: str, **rest: Any) -> Workload:
    return Workload(name, f"{name} {activation}", "train", NETWORKS[name], **rest)


def _anchor(sizes: tuple[int, ...], batch_size: int, share: float) -> Workload:
    """A network on which LIBXSMM-DNN was measured: forward, backward and weight gradients only."""
    name = "-".join(map(str, sizes))
    return Workload(
        f"libxsmm-{name}", f"{name} ReLU", "train", Network(sizes, "relu", batch_size, 0.02),
        peers=(), libxsmm=share,
    )  # fmt: skip


def _rounding(name: str) -> Workload:
    """A network's products in bfloat16, beside those who have it."""
    return Workload(
        f"{name}-bf16", f"{name} ReLU, bfloat16", "train", NETWORKS[name],
        compute_dtype="bfloat16", peers=ROUNDING,
    )  # fmt: skip


def _adam(name: str) -> Workload:
    """A network under Adam. Rates at which a difference in the last bit stays small."""
    network = replace(NETWORKS[name], optimizer="Adam", lr=1e-4)
    label = f"{name} {'ReLU' if network.activation == 'relu' else network.activation}, Adam"
    return Workload(f"{name}-adam", label, "train", network, peers=("torch", "torch-compile"))


_ALL = [
    _training(
        "784-512-512-10", "ReLU", quick=True,
        peers=(*LIBRARIES, "fastmlp-1-thread", "fastmlp-uint8", "fastmlp-layers"),
    ),
    Workload(
        "784-512-512-10-bn", "784-512-512-10 ReLU, batch norm", "train",
        NETWORKS["784-512-512-10-bn"], peers=LIBRARIES[:-1],
    ),
    _training("784-128-10", "ReLU", repeats=2, quick=True),
    _training("784-300-10", "sigmoid"),
    _training("784-64-64-32-10", "sigmoid", repeats=5),
    _training(
        "784-1024-1024-1024-10", "ReLU",
        peers=("torch", "torch-compile", "torch-bf16", "jax", "numpy-f32", *_SELF),
    ),
    _training("784-1000-10", "ReLU", peers=(*LIBRARIES, *_SELF)),
    _adam("784-512-512-10"),
    _adam("784-128-10"),
    _adam("784-300-10"),
    _rounding("784-512-512-10"),
    _rounding("784-1024-1024-1024-10"),
    _rounding("784-1000-10"),
    Workload(
        "float64", "784-512-512-10 ReLU, float64", "train", _FIRST, dtype="float64",
        peers=("torch", "numpy-f64", "sklearn"),
    ),
    Workload(
        "course", "784-32-32-32-10 sigmoid, float64, get_training_stats (HW1P1)", "course", _COURSE,
        repeats=4, dtype="float64", peers=("numpy-f64",),
    ),
    Workload(
        "one-row", "784-512-512-10, predict one row", "inference", _FIRST, unit="call",
        repeats=2_000, rows=1, peers=("torch", "torch-compile", "jax", "numpy-f32", "sklearn"),
        quick=True,
    ),
    Workload(
        "predict", "784-512-512-10, predict 10,000 rows", "inference", _FIRST, unit="call",
        repeats=5, rows=10_000, peers=("torch", "torch-compile", "jax", "numpy-f32", "sklearn"),
    ),
    Workload(
        "record", f"784-{_SPEEDRUN.hidden[0]}-10 ReLU, speedrun preset, from scratch", "record",
        _RECORD, unit="training", rounds=9, peers=("torch", "torch-compile"),
    ),
    _anchor((768, 512, 512, 64), 128, 0.89),
    _anchor((768, 1024, 1024, 1024, 64), 128, 0.80),
    _anchor((768, 128, 64), 32, 0.72),
    _anchor((768, 320, 64), 16, 0.57),
]  # fmt: skip

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _ALL}
