"""Who is compared: which module runs it, what it needs, how near its loss must be."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastmlp._machine import installed_version, release

from ._workloads import Workload


class Job(Protocol):
    """A peer's way to do a workload.

    ``run(seed)`` is timed and does the workload's ``repeats`` units; it may return figures.
    ``figure()`` is what all peers must agree on after equally many runs: the loss of the trained
    network, or the share of rows that inference gets wrong.
    """

    def run(self, seed: int) -> dict[str, float] | None: ...

    def figure(self) -> float: ...


# Rounding alone drives two float32 trainings half as far apart, relative to the loss.
ORDINARY_TOLERANCE = 0.02


@dataclass(frozen=True)
class Peer:
    """module : its JOBS maps the kinds of workload to classes of jobs

    requires : distribution → least version    options : keyword arguments of its jobs
    threads : overrides the number of the run    tolerance : relative, of the figure
    variables : its process has them in its environment, beside those that set the threads
    """

    name: str
    label: str
    module: str
    requires: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    tolerance: float = ORDINARY_TOLERANCE
    variables: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """What keeps it from running, in words, or None."""
        for distribution, least in self.requires.items():
            version = installed_version(distribution)
            if version is None:
                return f"{distribution} is not installed"
            if release(version) < release(least):
                return f"{distribution} {version} is older than {least}"
        return None

    def job(self, workload: Workload) -> Job:
        """Get ready for a workload; raises LookupError if the peer has no way to do it."""
        module = importlib.import_module(self.module)
        if workload.kind not in module.JOBS:
            raise LookupError(f"does not do {workload.kind}")
        job: Job = module.JOBS[workload.kind](workload, **self.options)
        return job


_HERE = __package__
_TORCH = {"torch": "2.4"}
_JAX = {"jax": "0.4", "jaxlib": "0.4"}
_LIST = [
    Peer("fastmlp", "fastmlp", f"{_HERE}._fastmlp"),
    Peer("torch", "PyTorch", f"{_HERE}._torch", _TORCH),
    Peer("torch-compile", "torch.compile", f"{_HERE}._torch", _TORCH, {"compiled": True}),
    # Eight bits of mantissa: the loss after training may differ by what they cost.
    Peer(
        "torch-bf16", "PyTorch bf16", f"{_HERE}._torch", _TORCH, {"bfloat16": True}, tolerance=0.25
    ),
    # Updates smaller than a weight's last bit are lost: it need only have learnt.
    Peer(
        "torch-pure-bf16",
        "PyTorch pure bf16",
        f"{_HERE}._torch",
        _TORCH,
        {"pure": True},
        tolerance=10,
    ),
    Peer("jax", "JAX", f"{_HERE}._jax", _JAX),
    Peer("jax-bf16", "JAX bf16", f"{_HERE}._jax", _JAX, {"bfloat16": True}, tolerance=0.25),
    Peer("numpy-f32", "NumPy f32", f"{_HERE}._numpy", options={"dtype": "float32"}),
    Peer("numpy-f64", "NumPy f64", f"{_HERE}._numpy", options={"dtype": "float64"}),
    Peer("sklearn", "scikit-learn", f"{_HERE}._sklearn", {"scikit-learn": "1.4"}),
    Peer(
        "fastmlp-float32",
        "fastmlp float32",
        f"{_HERE}._fastmlp",
        options={"compute_dtype": "float32"},
        tolerance=0.25,
    ),
    Peer("fastmlp-1-thread", "one thread", f"{_HERE}._fastmlp", threads=1),
    Peer("fastmlp-uint8", "uint8 input", f"{_HERE}._fastmlp", options={"input_dtype": "uint8"}),
    Peer("fastmlp-layers", "layer path", f"{_HERE}._fastmlp", options={"by_hand": True}),
]
PEERS: dict[str, Peer] = {peer.name: peer for peer in _LIST}

# Not a contestant: measures the processor's peak in every round.
PROBE = Peer("probe", "machine", f"{_HERE}._probe")
