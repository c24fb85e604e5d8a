"""What is measured: the ten programs, each a peer with a process of its own."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from examples.ten_steps import setting

from ..compare._data import training_set
from ..compare._peers import Peer
from ..compare._readme import ROOT
from ..compare._workloads import Workload
from ..networks import Network

FOLDER = ROOT / "examples" / "ten_steps"


def path_of(module: str) -> str:
    """Where a module of that folder lies, from the root of the checkout."""
    return (FOLDER / f"{module}.py").relative_to(ROOT).as_posix()


class Step(NamedTuple):
    """A program, its title, the names that the page shows, and how it runs.

    A name is one of the program's, or, behind a module's name and a point, that module's.
    """

    module: str
    title: str
    shown: tuple[str, ...]
    alone: bool = True  # on one thread

    @property
    def number(self) -> int:
        return int(self.module[4:6])


STEPS = (
    Step("step01_numpy", "NumPy", ("step",)),
    Step("step02_float32", "float32", ("DTYPE",)),
    Step(
        "step03_loop", "One Numba loop", ("add_rows", "multiply", "learn", "epoch.compiled_epoch")
    ),
    Step("step04_fusing", "Fusing", ("update", "fused")),
    Step("step05_vector", "A vector type", ("add_rows",)),
    Step("step06_tile", "A tile", ("add_product", "tile", "multiply_tile")),
    Step("step07_blocks", "A blocked layout", ("in_blocks", "train")),
    Step("step08_update", "The update in the tile", ("learn_tile",)),
    Step("step09_threads", "Threads and a barrier", ("each_tile", "epoch"), alone=False),
    Step("step10_epoch", "The compiled epoch", ("train",), alone=False),
)

# Beside the steps: step 1 without page faults, what a library's own threads do for step 2, and
# step 10 without any.
MEMORY_KEPT = "step01_numpy-memory-kept"
NUMPY_THREADS, EPOCH_ALONE = "step02_float32-threads", "step10_epoch-alone"

# glibc then takes all arrays of a step from memory that it has, and gives none of it back. 32 MB
# are the most that all its versions take for the first; other C libraries know neither.
_KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


def _peer(name: str, label: str, module: str, alone: bool, **variables: str) -> Peer:
    threads = 1 if alone else None
    options = {"module": module}
    return Peer(name, label, __name__, options=options, threads=threads, variables=variables)


_ALL = [
    *(_peer(step.module, step.title, step.module, step.alone) for step in STEPS),
    _peer(MEMORY_KEPT, "NumPy, memory kept", "step01_numpy", True, **_KEEP),
    _peer(NUMPY_THREADS, "float32, all threads", "step02_float32", False),
    _peer(EPOCH_ALONE, "the compiled epoch, one thread", "step10_epoch", True),
]
PEERS = {peer.name: peer for peer in _ALL}

_NAME = "-".join(map(str, setting.SIZES))
WORKLOAD = Workload(
    "ten-steps", f"{_NAME} ReLU", "train",
    Network(
        setting.SIZES, "relu", setting.BATCH, float(setting.RATE),
        momentum=float(setting.MOMENTUM),
    ),
)  # fmt: skip


class Training:
    """Epochs of a program, from where the last one ended."""

    def __init__(self, workload: Workload, module: str) -> None:
        program = importlib.import_module(f"examples.ten_steps.{module}")
        self.train = program.train
        whole = workload.samples // setting.BATCH * setting.BATCH
        self.x, self.labels = training_set(whole, program.DTYPE)
        self.parameters = setting.initial()
        self.loss = float("nan")

    def run(self, seed: int) -> None:
        self.parameters, losses = self.train(self.parameters, self.x, self.labels, 1, seed)
        self.loss = float(losses[-1])

    def figure(self) -> float:
        """The mean loss of the last epoch, on which all programs must agree."""
        return self.loss


JOBS: dict[str, Any] = {"train": Training}


def excerpt(step: Step) -> str:
    """What the page shows of a program, as it stands in the files."""
    parts = []
    for shown in step.shown:
        module, _, name = shown.rpartition(".")
        source = _source(module or step.module)
        begin, end = dict(_named(ast.parse(source)))[name]
        parts.append("\n".join(source.splitlines()[begin:end]))
    return "\n\n\n".join(parts)


def _source(module: str) -> str:
    return (ROOT / path_of(module)).read_text(encoding="utf-8")


def imported(step: Step) -> list[str]:
    """The modules beside a program that it imports from, in the order of its imports."""
    found: dict[str, None] = {}
    for node in ast.parse(_source(step.module)).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= dict.fromkeys([node.module] if node.module else [a.name for a in node.names])
    return list(found)


def _named(tree: ast.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, its lines) of the functions, classes and constants of a file."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            yield node.name, (first - 1, node.end_lineno or first)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, (node.lineno - 1, node.end_lineno or node.lineno)
