"""Do the tests notice a fault? Put single faults into the kernels and the engine, and run them.

    python tools/mutate.py --number 60 --jobs 2

Every fault is one edit that leaves valid Python: a comparison or a sign turned, a constant off by
one, ``min`` for ``max``, a condition negated, a clause or a statement dropped, two arguments
swapped. Each is put into a copy of the tree, and the tests that go with its file run, the most
telling first, until one fails: with an empty cache of machine code where it is a fault in a kernel,
else with the code of the kernels as they are. Results are appended to a file of JSON lines; a
run that was interrupted goes on from there, unless sources or tests have changed meanwhile. Faults
that change no result are listed in ``equivalent.toml``, with the reason.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import math
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
TARGETS = (
    "fastmlp/kernels/*.py", "fastmlp/engine.py", "fastmlp/training.py",
    "fastmlp/_session.py", "fastmlp/_pace.py", "fastmlp/_measures.py", "fastmlp/_buffers.py",
    "fastmlp/_by_hand.py", "fastmlp/_shards.py",
)  # fmt: skip
COPIED = "fastmlp", "tests", "benchmarks", "pyproject.toml", "README.md", "CONTRIBUTING.md"

# After which a test fails: threads that wait for each other are found soon.
TEST_SECONDS = 240

# The first tests of a file, which compile little. Others start with the epoch.
FIRST = {
    "apart": "shards epoch", "shards": "shards", "_shards": "shards",
    "_bfloat16": "bfloat16", "_geometry": "packing linear", "_host": "tile measured", "_jit": "jit",
    "_math": "math", "_math_smooth": "math_smooth activation",
    "_math_turns": "math_turns", "scale": "scale_inputs", "embed": "embeddings",
    "mix": "parametric_activations", "_own": "own_activation", "_pace": "pace",
    "_memory": "packing update", "_operands": "packing bfloat16",
    "_rates": "bfloat16 measured", "_simd": "math loss", "_sync": "kernels", "_tile": "tile linear",
    "_tile_products": "tile present", "present": "present", "_tile_amx": "amx",
    "_tile_bf16": "bfloat16", "_units": "bfloat16", "activation": "activation", "linear": "linear",
    "batchnorm": "batchnorm", "loss": "loss", "matmul": "linear present", "gather": "packing",
    "packing": "packing linear", "update": "update", "rules": "update",
    "_cache": "jit kernel_files cached_kernels", "_reference": "vocabulary",
    "_vocabulary": "vocabulary", "_compiled": "vocabulary", "_by_hand": "by_hand",
    "training": "fit_ends fit_at_rest buffers fit_input fit_events training_stats",
    "_buffers": "buffers fit_at_rest mlp fit_input", "engine": "measured fit_ends fit_at_rest",
}  # fmt: skip
# The epoch in one dtype after the other, each of which takes its time to compile.
NEXT = [
    ["fit", "epoch", "nonfinite", "optimizers",
     "-k", "not float32 and not bfloat16 and not signal"],
    ["bounds", "threads", "-k", "float64 and (engine or bits or waits)"],
    ["kernels", "-k", "float64"],
    ["fit", "epoch", "threads", "bounds", "-k", "float32 and not kernel and not signal"],
    ["fit", "epoch", "threads", "bounds", "bfloat16", "compute_dtype", "-k", "not signal"],
    ["mlp", "fit_events", "fit_ends", "fit_at_rest", "buffers", "training_stats", "bad_input",
     "kernels"],
    ["kernels", "amx", "jit", "sync", "nonfinite"],
]  # fmt: skip

# What stands for an operator, and what is put in its place.
COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
}  # fmt: skip
SIGNS = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "+"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
}  # fmt: skip


# Process groups of pytest at work; an interrupt ends them, and what they found is not written down.
RUNNING: set[int] = set()


class Fault(NamedTuple):
    """Bytes start ... end-1 of a file, ``old``, become ``new``."""

    file: str
    line: int
    column: int
    kind: str
    start: int
    end: int
    old: str
    new: str

    @property
    def name(self) -> str:
        """What people see, and what results are kept under."""
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}:{self.line}:{self.column}: {old} -> {new}"

    def put_into(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


class _Finder(ast.NodeVisitor):
    """All faults of one file. Annotations, decorators and messages of errors stay as they are."""

    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source, self.faults = file, source, []
        self.lines = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
        self.visit(ast.parse(source))

    def _span(self, node: Any) -> tuple[int, int]:
        return (
            self.lines[node.lineno - 1] + node.col_offset,
            self.lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def _text(self, node: Any) -> str:
        start, end = self._span(node)
        return self.source[start:end].decode()

    def _add(self, kind: str, node: Any, span: tuple[int, int], new: str) -> None:
        start, end = span
        old = self.source[start:end].decode()
        place = self.file, node.lineno, node.col_offset + 1
        self.faults.append(Fault(*place, kind, start, end, old, new))

    def _operator(
        self, kind: str, node: Any, left: Any, right: Any, signs: tuple[str, str]
    ) -> None:
        """Another sign between two operands; the whole expression is shown."""
        (start, first), (second, end) = self._span(left), self._span(right)
        between = self.source[first:second].decode().replace(*signs, 1)
        whole = self.source[start:first].decode() + between + self.source[second:end].decode()
        self._add(kind, node, (start, end), whole)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def _leave(self, node: ast.AST) -> None:
        pass

    visit_Raise = visit_JoinedStr = visit_Import = visit_ImportFrom = _leave

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
            signs = COMPARISONS[type(node.ops[0])]
            self._operator("compare", node, node.left, node.comparators[0], signs)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in SIGNS:
            self._operator("sign", node, node.left, node.right, SIGNS[type(node.op)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add("constant", node, self._span(node), str(not node.value))
        elif isinstance(node.value, (int, float)):
            self._add("constant", node, self._span(node), repr(node.value + 1))
            self._add("constant", node, self._span(node), f"({node.value - 1!r})")

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            other = "max" if node.func.id == "min" else "min"
            self._add("extreme", node, self._span(node.func), other)
        for first, second in itertools.pairwise(node.args):
            simple = all(isinstance(a, (ast.Name, ast.Attribute)) for a in (first, second))
            if simple and self._text(first) != self._text(second):
                span = self._span(first)[0], self._span(second)[1]
                self._add("arguments", first, span, f"{self._text(second)}, {self._text(first)}")
        self.generic_visit(node)

    def visit_If(self, node: Any) -> None:
        self._add("condition", node.test, self._span(node.test), f"not ({self._text(node.test)})")
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = " and " if isinstance(node.op, ast.And) else " or "
        for dropped in node.values:
            kept = [f"({ast.unparse(value)})" for value in node.values if value is not dropped]
            self._add("clause", node, self._span(node), word.join(kept))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._add("statement", node, self._span(node), "pass")
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add("statement", node, self._span(node), "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], (ast.Subscript, ast.Attribute)):
            self._add("statement", node, self._span(node), "pass")
        self.generic_visit(node)


def _in_turns(lists: list[list[Fault]]) -> list[Fault]:
    """One of each list, then the next of each."""
    rounds = itertools.zip_longest(*lists)
    return [fault for each in rounds for fault in each if fault is not None]


def sample(number: int, seed: int, chosen: list[str]) -> list[Fault]:
    """``number`` faults, all kinds of them in every file, more in files with more places for one.

    The same seed with a greater number gives the same faults, and more.
    """
    generator, queues = random.Random(seed), {}
    for path in sorted(path for pattern in TARGETS for path in ROOT.glob(pattern)):
        file = str(path.relative_to(ROOT))
        by_kind: dict[str, list[Fault]] = {}
        for fault in _Finder(file, path.read_bytes()).faults:
            by_kind.setdefault(fault.kind, []).append(fault)
        for faults in by_kind.values():
            generator.shuffle(faults)
        kinds = sorted(by_kind)
        generator.shuffle(kinds)
        if by_kind and (not chosen or file in chosen or path.stem in chosen):
            queues[file] = _in_turns([by_kind[kind] for kind in kinds])
    weights = {file: math.sqrt(len(queue)) for file, queue in queues.items()}
    taken: Counter[str] = Counter()
    found: list[Fault] = []
    while len(found) < number and any(queues.values()):
        left = [file for file, queue in queues.items() if queue]
        file = min(left, key=lambda file: (taken[file] + 1) / weights[file])
        fault = queues[file].pop(0)
        if _parses(fault.put_into((ROOT / file).read_bytes())):
            found.append(fault)
            taken[file] += 1
    return found


def _parses(source: bytes) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def excuse(fault: Fault) -> str | None:
    """Why a fault need not be noticed: an entry without ``new`` excuses every fault of its line."""
    line = (ROOT / fault.file).read_bytes().splitlines()[fault.line - 1].decode().strip()
    for entry in tomllib.loads((ROOT / "tools/equivalent.toml").read_text())["fault"]:
        same = entry["file"] == fault.file and entry["line"] == line
        if same and entry.get("new", fault.new) == fault.new:
            return str(entry["reason"])
    return None


def _stages(file: str) -> Iterator[list[str]]:
    """Arguments of pytest, one run after the other."""
    first = FIRST.get(Path(file).stem, "").split()
    for words in [first, *NEXT] if first else NEXT:
        marker = words.index("-k") if "-k" in words else len(words)
        yield [f"tests/test_{name}.py" for name in words[:marker]] + words[marker:]


class _Workplace:
    """A copy of the tree in which one fault after the other is judged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        hidden = shutil.ignore_patterns("__pycache__", ".*")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=hidden)
            else:
                shutil.copy2(source, folder / name)

    def judge(self, fault: Fault, limit: float) -> dict[str, Any]:
        """Run the fault's tests: killed, survived or timeout, by which test, after how long."""
        started, verdict, by = time.monotonic(), "survived", ""
        path = self._folder / fault.file
        in_a_kernel = path.parent.name == "kernels"
        cache = self._folder / ("code_of_a_fault" if in_a_kernel else "code")
        path.write_bytes(fault.put_into(path.read_bytes()))
        for arguments in _stages(fault.file):
            status, by = self.run(arguments, limit - (time.monotonic() - started), cache)
            if status != 0:
                verdict = "timeout" if status is None else "killed"
                break
        shutil.copy2(ROOT / fault.file, path)
        if in_a_kernel:
            shutil.rmtree(cache, ignore_errors=True)
        seconds = round(time.monotonic() - started)
        return {"name": fault.name, "file": fault.file, "verdict": verdict, "by": by, "s": seconds}

    def check(self, files: list[str], limit: float) -> None:
        """The tests pass without a fault: where they do not, every fault would seem killed."""
        for arguments in {tuple(stage): None for file in files for stage in _stages(file)}:
            status, by = self.run(list(arguments), limit, self._folder / "code")
            if status != 0:
                raise SystemExit(f"without a fault: pytest {' '.join(arguments)}: {status} {by}")

    def run(self, arguments: list[str], seconds: float, cache: Path) -> tuple[int | None, str]:
        """Exit status of pytest, None after the time limit; and the first test that failed."""
        environment = {"PYTHONPATH": str(self._folder), "NUMBA_CACHE_DIR": str(cache)}
        quiet = "-x", "-q", "--tb=no", "-rfE", f"--timeout={TEST_SECONDS}"
        command = [sys.executable, "-m", "pytest", *quiet, *arguments]
        process = subprocess.Popen(
            command, cwd=self._folder, env=os.environ | environment, text=True,
            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        RUNNING.add(process.pid)
        try:
            output, _ = process.communicate(timeout=max(1, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, ""
        finally:
            RUNNING.discard(process.pid)
            # A test that ran out of time leaves the processes that it had started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return process.returncode, lines[0] if lines else f"exit status {process.returncode}"


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for name in ("fastmlp", "tests") for path in (ROOT / name).rglob("*")):
        if path.suffix == ".py":
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def report(faults: list[Fault], results: dict[str, dict[str, Any]]) -> bool:
    """Print a line per file and every survivor; True if there is none without an excuse."""
    names = "killed", "timeout", "survived", "excused"
    counts: dict[str, Counter[str]] = {}
    survivors = []
    for fault in faults:
        verdict = "excused" if excuse(fault) else results[fault.name]["verdict"]
        counts.setdefault(fault.file, Counter())[verdict] += 1
        survivors += [fault.name] * (verdict == "survived")
    print(f"{'':36}" + "".join(f"{name:>10}" for name in names))
    for file, found in sorted(counts.items()):
        print(f"{file:36}" + "".join(f"{found[name]:10}" for name in names))
    total = sum(counts.values(), Counter())
    print(f"{'in all':36}" + "".join(f"{total[name]:10}" for name in names))
    for name in survivors:
        print(f"survived: {name}")
    return not survivors


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="only these, as fastmlp/engine.py or engine")
    parser.add_argument("--number", type=int, default=60, help="of faults (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time (default 1)")
    parser.add_argument("--limit", type=float, default=1200, help="seconds per fault")
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--unchecked", action="store_true", help="the tests are known to pass")
    parser.add_argument("--list", action="store_true", help="print the faults and run nothing")
    arguments = parser.parse_args()
    # A shell lets what it starts in the background ignore Ctrl-C, and so would the tests of it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faults = sample(arguments.number, arguments.seed, arguments.files)
    if arguments.list:
        for fault in faults:
            print(f"{fault.kind:10} {fault.name}", f"({excuse(fault)})" if excuse(fault) else "")
        return True
    digest, results, lock = _digest(), {}, threading.Lock()
    if arguments.results.exists():
        for line in arguments.results.read_text().splitlines():
            record = json.loads(line)
            if record["tree"] == digest:
                results[record["name"]] = record
    left = [fault for fault in faults if fault.name not in results and not excuse(fault)]
    places: queue.SimpleQueue[_Workplace] = queue.SimpleQueue()

    stopped = threading.Event()

    def work(fault: Fault) -> None:
        place = places.get()
        record = place.judge(fault, arguments.limit) | {"tree": digest}
        places.put(place)
        if stopped.is_set():
            return
        with lock, arguments.results.open("a") as file:
            results[fault.name] = record
            file.write(json.dumps(record) + "\n")
            print(
                f"{record['verdict']:9} {record['s']:5} s  {fault.name}  {record['by']}", flush=True
            )

    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as name:
        folders = [Path(name) / str(job) for job in range(arguments.jobs)]
        for folder in folders:
            places.put(_Workplace(folder))
        if left and not results and not arguments.unchecked:
            place = places.get()
            place.check(sorted({fault.file for fault in left}), arguments.limit)
            places.put(place)
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            try:
                list(pool.map(work, left))
            except KeyboardInterrupt:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for group in tuple(RUNNING):
                    os.killpg(group, signal.SIGKILL)
                raise
    return report(faults, results)


if __name__ == "__main__":
    sys.exit(not main())
