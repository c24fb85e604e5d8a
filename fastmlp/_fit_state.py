"""A fit that has not come to its end: what it needs, beside its network, to go on."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import numbers
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .history import FitPlan, History
from .schedules import Schedule, StepFactors

# Bytes of an array that its digest is made of, about 50 ms of hashing: of a larger array it is that
# of rows spread evenly.
HASHED = 1 << 26

# At so many steps, spread evenly, the rates of a schedule are compared.
STEPS_COMPARED = 4096

# Of a network, what its training changes: arrays, to which assigning copies, and numbers.
NETWORK_ARRAYS = ("parameters", "velocities", "squares", "averages", "statistics")
NETWORK_COUNTERS = ("updates", "dropout_steps")

# Whose state NumPy gives as numbers and arrays of them.
_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class EpochSoFar(NamedTuple):
    """What came of an epoch's first steps; see ``StepFigures``."""

    losses: np.ndarray  # (steps,) float64, as are errors and learning rates
    errors: np.ndarray
    rates: np.ndarray
    seconds: float


NOTHING = EpochSoFar(np.empty(0), np.empty(0), np.empty(0), 0.0)


@dataclass(frozen=True, eq=False)
class FitState:
    """Where a fit stands: ``MLP.unfinished`` of a network whose ``fit`` was interrupted.

    epoch : that is under way, counted from 0; as many as there are once all have come to an end
    step : how many of its steps are done
    epochs : of the whole fit
    history : the figures of the epochs before

    The rest is what ``fit(resume=True)`` and ``save`` need.
    """

    arguments: dict[str, Any]  # what ``arguments_of`` gave
    generator: dict[str, Any]  # before the first shuffle: see ``generator_state``
    epoch: int
    done: EpochSoFar
    told: tuple[str, ...]  # classes of the callbacks that have heard of the end of the epoch
    ended: bool  # by the word of one of them
    lost: str | None  # why a loss that is not finite ended it
    history: History
    # (class, state) of those that have one, in order.
    callbacks: tuple[tuple[str, dict[str, Any]], ...]
    # The network's as of the last step, where a callback has put another in its place.
    network: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return len(self.done.losses)

    @property
    def epochs(self) -> int:
        epochs: int = self.arguments["epochs"]
        return epochs

    def __repr__(self) -> str:
        return f"FitState(epoch={self.epoch}, step={self.step}, epochs={self.epochs})"


def network_state(mlp: Any) -> dict[str, np.ndarray]:
    """Copies of all that training changes of a network, by name; counters are () uint64."""
    arrays = {name: getattr(mlp, name).copy() for name in NETWORK_ARRAYS}
    return arrays | {n: np.array(getattr(mlp, n), np.uint64) for n in NETWORK_COUNTERS}


def set_network_state(mlp: Any, state: dict[str, np.ndarray]) -> None:
    """Bring a network into a state that ``network_state`` gave.

    Arrays that another optimizer has another use for stay as they are.
    """
    for name, values in state.items():
        if values.shape == np.shape(getattr(mlp, name)):
            setattr(mlp, name, int(values) if name in NETWORK_COUNTERS else values)


def generator_state(generator: np.random.Generator) -> dict[str, Any] | None:
    """The state of a generator as JSON can hold it; None of one that is not NumPy's own."""
    state = generator.bit_generator.state
    if not isinstance(state, dict) or state.get("bit_generator") not in _BIT_GENERATORS:
        return None
    plain: dict[str, Any] = _plain(state)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def set_generator_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Bring a generator of the same kind into the state that ``generator_state`` gave."""
    generator.bit_generator.state = copy.deepcopy(state)


def generator_of(state: dict[str, Any]) -> np.random.Generator:
    """A generator in that state. Raises ValueError where it is none."""
    kind = state.get("bit_generator")
    if kind not in _BIT_GENERATORS:
        known = ", ".join(_BIT_GENERATORS)
        raise ValueError(f"its generator must be one of {known}, got {kind!r:.60}")
    generator = np.random.Generator(getattr(np.random, kind)(0))
    try:
        # NumPy reads at these places unasked.
        if kind == "MT19937" and state["state"]["pos"] not in range(625):
            raise ValueError(f"its position must be from 0 to 624, got {state['state']['pos']!r}")
        if kind == "Philox" and state["buffer_pos"] not in range(5):
            raise ValueError(f"its position must be from 0 to 4, got {state['buffer_pos']!r}")
        set_generator_state(generator, state)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"its generator must have the state of a {kind}: {error}") from None
    return generator


def arguments_of(
    options: Any, plan: FitPlan, data: dict[str, Any], schedule: Schedule, factors: StepFactors
) -> dict[str, Any]:
    """What decides on the course of a fit, as JSON can hold it; arrays by their digests.

    data : x, labels, sample_weight and validation_data: arrays, tuples of arrays, digests or None
    """
    # Some of them: a long training has millions.
    count = min(plan.total_steps, STEPS_COMPARED)
    steps = np.linspace(0, max(0, plan.total_steps - 1), count).astype(np.int64)
    with np.errstate(all="ignore"):
        rates = schedule.rates(1.0, steps, plan, History())
    return {
        "epochs": int(options.epochs),
        "batch_size": int(options.batch_size),
        "max_steps": None if options.max_steps is None else int(options.max_steps),
        "shuffle": options.shuffle if isinstance(options.shuffle, str) else bool(options.shuffle),
        "window": None if options.window is None else int(options.window),
        "seed": _seed_in_words(options.seed),
        "accumulate": int(options.accumulate),
        "drop_last": bool(options.drop_last),
        "shards": options.shards,
        **{name: digests(value) for name, value in data.items()},
        "lr_schedule": {"kind": _schedule_in_words(schedule), **digests(np.asarray(rates, float))},
        "decay_schedule": digests(factors.decay),
        "dropout_schedule": digests(factors.dropout),
    }


def digests(value: Any) -> Any:
    """What tells an array from others, as JSON can hold it; of a tuple a list, of None None."""
    if isinstance(value, tuple):
        return [digests(entry) for entry in value]
    return value if value is None or isinstance(value, dict) else digest(value)


def digest(array: np.ndarray) -> dict[str, Any]:
    """What tells an array from others, as JSON can hold it: of a large one, of some rows."""
    rows = array
    if array.nbytes > HASHED:
        count = max(1, HASHED * len(array) // array.nbytes)
        rows = array[np.linspace(0, len(array) - 1, count).astype(np.int64)]
    content = np.ascontiguousarray(rows, array.dtype.newbyteorder("="))
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "sha256": hashlib.sha256(content.data).hexdigest(),
    }


def _seed_in_words(seed: Any) -> Any:
    """A seed as it is; of an object that draws numbers, what it is: it has drawn some since."""
    if seed is None or isinstance(seed, numbers.Integral):
        return None if seed is None else int(seed)
    if isinstance(seed, (list, tuple, np.ndarray)):
        return np.asarray(seed).tolist()
    kind = getattr(seed, "bit_generator", None)
    return type(seed).__name__ + ("" if kind is None else f"({type(kind).__name__})")


def _schedule_in_words(schedule: Schedule) -> str:
    """Its class and its numbers; what a function does shows in the rates."""
    values: dict[str, Any] = vars(schedule) if dataclasses.is_dataclass(schedule) else {}
    plain = (f"{k}={v!r}" for k, v in values.items() if isinstance(v, (numbers.Real, str)))
    return f"{type(schedule).__name__.lstrip('_')}({', '.join(plain)})"


def check_arguments(state: FitState, given: dict[str, Any]) -> None:
    """Raise ValueError, which names it, for an argument that is not that of the unfinished fit."""
    for name, value in given.items():
        expected = state.arguments.get(name)
        if value != expected:
            was, is_now = _in_words(expected), _in_words(value)
            got = "other values" if was == is_now else is_now
            raise ValueError(
                f"{name} must be that of the unfinished fit for it to go on, {was}, got {got}"
            )


def _in_words(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(v, dict | None) for v in value):
        return f"({', '.join(map(_in_words, value))})"
    if isinstance(value, dict):
        shape = value.get("shape")
        shape = tuple(shape) if isinstance(shape, list) else shape
        return str(value.get("kind", f"{shape} {value.get('dtype')}"))
    return f"{value!r:.60}"
