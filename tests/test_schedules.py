"""Learning-rate schedules: their formulas, PyTorch's rates, and arguments that are refused."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from fastmlp import History, schedules
from fastmlp.history import FitPlan
from fastmlp.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    Lambda,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
)

# A rate is a handful of roundings away from the formula, PyTorch's up to one per step.
CLOSE = {"rtol": 1e-12, "atol": 1e-15}
LR = 0.3


def plan(epochs=6, steps=5, total=None, validation=True):
    return FitPlan(
        epochs, steps, 8, 8 * steps, validation, epochs * steps if total is None else total
    )


def rates(schedule, of=None):
    of = of or plan()
    return schedule.rates(LR, np.arange(of.total_steps), of, History())


# Formulas


def test_constant():
    np.testing.assert_array_equal(rates(Constant()), [LR] * 30)


def test_step_and_exponential_change_from_epoch_to_epoch():
    epochs = np.repeat(np.arange(6), 5)
    expected = LR * np.array([1, 1, 0.5, 0.5, 0.25, 0.25])[epochs]
    np.testing.assert_allclose(rates(Step(2, 0.5)), expected, **CLOSE)
    np.testing.assert_allclose(rates(Step(4)), LR * np.where(epochs < 4, 1, 0.1), **CLOSE)
    np.testing.assert_allclose(rates(Exponential(0.7)), LR * 0.7**epochs, **CLOSE)


@pytest.mark.parametrize("power", [0, 0.5, 2])
def test_inverse_scaling_changes_from_step_to_step(power):
    expected = [LR / (step + 1) ** power for step in range(30)]
    np.testing.assert_allclose(rates(InverseScaling(power)), expected, **CLOSE)


def test_half_a_cosine():
    expected = [LR * (1 + np.cos(np.pi * step / 30)) / 2 for step in range(30)]
    np.testing.assert_allclose(rates(Cosine()), expected, **CLOSE)


def test_a_warm_up_rises_in_a_line_and_then_the_cosine_begins_at_the_top():
    given = rates(Cosine(warmup=0.2))
    np.testing.assert_allclose(given[:7], LR * np.arange(1, 8) / 7, **CLOSE)
    np.testing.assert_allclose(given[6:], LR * np.cos(np.pi * np.arange(24) / 48) ** 2, **CLOSE)


@pytest.mark.parametrize(
    ("steps", "options", "lengths"),
    [
        (30, {"restarts": 2}, [10, 10, 10]),
        (35, {"restarts": 2, "t_mult": 2}, [5, 10, 20]),
        (52, {"restarts": 2, "t_mult": 3, "warmup": 0.25, "minimum": 0.1}, [3, 9, 27]),
        (30, {"restarts": 29}, [1] * 30),
        # Thirds of 7 are no floats: each period begins at the first step after it.
        (7, {"restarts": 2}, [7 / 3] * 3),
    ],
)
def test_restarts(steps, options, lengths):
    """Eq. 5 of Loshchilov and Hutter, with their T_i and T_cur."""
    given = rates(Cosine(**options), plan(1, steps))
    rising = steps - round(sum(lengths))
    least = LR * options.get("minimum", 0)
    period, t_cur = 0, 0.0
    for rate in given[rising:]:
        t_i = lengths[period]
        assert rate == pytest.approx(
            least + 0.5 * (LR - least) * (1 + np.cos(t_cur / t_i * np.pi)), rel=1e-12, abs=1e-15
        )
        t_cur += 1
        if t_cur >= t_i - 1e-9:
            period, t_cur = period + 1, t_cur - t_i
    np.testing.assert_allclose(given[:rising], LR * np.arange(1, rising + 1) / (rising + 1))


def by_phases(points, share):
    """A rate at every step, along the (step, rate) points; share : of the way, from that of time"""
    times, values = zip(*points, strict=True)
    out = []
    for step in range(int(times[-1]) + 1):
        k = max(i for i, time in enumerate(times[:-1]) if time < step or i == 0)
        part = share((step - times[k]) / (times[k + 1] - times[k]))
        out.append(values[k] + (values[k + 1] - values[k]) * part)
    return out


SHARES = {"linear": lambda t: t, "cos": lambda t: (1 - np.cos(np.pi * t)) / 2}


@pytest.mark.parametrize("strategy", SHARES)
def test_one_cycle(strategy):
    """Up in 0.3 of 30 steps, the first and the last of a phase included."""
    share, low = SHARES[strategy], LR / 25
    points = [(0, low), (8, LR), (29, low / 1e4)]
    given = rates(OneCycle(anneal_strategy=strategy))
    np.testing.assert_allclose(given, by_phases(points, share), **CLOSE)
    points = [(0, LR / 4), (11, LR), (22, LR / 4), (29, LR / 12)]
    given = rates(OneCycle(0.4, strategy, 4, 3, three_phase=True))
    np.testing.assert_allclose(given, by_phases(points, share), **CLOSE)


@pytest.mark.parametrize(
    ("pct_start", "steps", "expected"),
    [(0.1, 10, LR), (0.5, 2, LR), (0.3, 1, LR / 25e4), (0, 1, LR / 25e4)],
)
def test_one_cycle_of_a_step_or_a_phase_of_one(pct_start, steps, expected):
    given = rates(OneCycle(pct_start), plan(1, steps))
    assert given[0] == pytest.approx(expected, rel=1e-12)
    assert given[-1] == pytest.approx(LR / 25e4, rel=1e-12)


def test_a_function_of_the_progress_gives_a_factor():
    given = rates(Lambda(lambda progress: 1 - progress))
    np.testing.assert_allclose(given, LR * (1 - np.arange(30) / 30), **CLOSE)


def after(schedule, values, lr=LR):
    """The rate of the next epoch after each of the figures."""
    out = []
    for epochs in range(1, len(values) + 1):
        history = History(**{schedule.monitor: values[:epochs]})
        (rate,) = set(schedule.rates(lr, np.arange(5), plan(), history))
        out.append(rate)
    return out


NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "values", "reductions"),
    [
        ({"patience": 0}, [3, 2, 2, 1, 1, 1], [0, 0, 1, 1, 2, 3]),
        ({"patience": 2}, [3, 4, 5, 6, 7, 8, 9, 2, 2, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]),
        ({"patience": 1}, [NAN, NAN, 3, NAN, 2, NAN, NAN], [0, 1, 1, 1, 1, 1, 2]),
        ({"patience": 0, "threshold": 0.1}, [1, 0.91, 0.89, 0.81, 0.8], [0, 1, 1, 2, 2]),
        ({"patience": 0, "threshold": 0.0}, [1, 0.999999, 0.999999], [0, 0, 1]),
        ({"patience": 0, "monitor": "train_error"}, [0, 0], [0, 1]),
    ],
)
def test_reduce_on_plateau(options, values, reductions):
    given = after(ReduceOnPlateau(0.5, **options), values)
    np.testing.assert_allclose(given, LR * 0.5 ** np.array(reductions), **CLOSE)


def test_no_plateau_reduces_below_the_least_rate():
    schedule = ReduceOnPlateau(0.5, patience=0, min_lr=0.1)
    assert after(schedule, [1] * 5) == pytest.approx([0.3, 0.15, 0.1, 0.1, 0.1], rel=1e-15)
    assert after(schedule, [1] * 3, lr=0.05) == [0.05] * 3, "a rate below it stays"


# PyTorch


def torch_rates(make, total, every=1, values=None):
    """The rates of each step of a scheduler that is called after every so many steps."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch's schedulers")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    out = []
    for step in range(total):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < total:
            scheduler.step(*([] if values is None else [values[step]]))
    return out


def one_cycle(**options):
    return lambda s, o: s.OneCycleLR(o, LR, total_steps=30, cycle_momentum=False, **options)


def warm_restarts(s, o):
    rise = s.LinearLR(o, start_factor=1 / 10, total_iters=9)
    fall = s.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=0.1 * LR)
    return s.SequentialLR(o, [rise, fall], milestones=[9])


IN_TORCH = {
    "constant": (Constant(), lambda s, o: s.ConstantLR(o, factor=1), 1),
    "step": (Step(2, 0.3), lambda s, o: s.StepLR(o, 2, 0.3), 5),
    "exponential": (Exponential(0.8), lambda s, o: s.ExponentialLR(o, 0.8), 5),
    "cosine": (Cosine(minimum=0.2), lambda s, o: s.CosineAnnealingLR(o, 30, 0.2 * LR), 1),
    "restarts": (Cosine(0.3, 2, 0.1, 2), warm_restarts, 1),
    "lambda": (Lambda(lambda p: 1 - p), lambda s, o: s.LambdaLR(o, lambda k: 1 - k / 30), 1),
    "one cycle": (OneCycle(), one_cycle(), 1),
    "a line": (
        OneCycle(0.25, "linear", 7, 9),
        one_cycle(pct_start=0.25, anneal_strategy="linear", div_factor=7, final_div_factor=9),
        1,
    ),
    "three phases": (
        OneCycle(0.35, three_phase=True),
        one_cycle(pct_start=0.35, three_phase=True),
        1,
    ),
    "no rise": (OneCycle(0.0), one_cycle(pct_start=0.0), 1),
}


@pytest.mark.parametrize("name", IN_TORCH)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler:UserWarning")
def test_the_rates_of_pytorch(name):
    schedule, make, every = IN_TORCH[name]
    np.testing.assert_allclose(rates(schedule), torch_rates(make, 30, every), **CLOSE)


def test_plateaus_of_pytorch():
    values = np.random.default_rng(3).choice([1.0, 0.99, 0.9, 0.5, 0.45, NAN], 60).tolist()
    schedule = ReduceOnPlateau(0.7, patience=3, threshold=0.05, min_lr=0.02)
    expected = torch_rates(
        lambda s, o: s.ReduceLROnPlateau(
            o, factor=0.7, patience=3, threshold=0.05, min_lr=0.02, eps=0
        ),
        60, values=values,
    )  # fmt: skip
    assert len(set(expected)) > 4
    np.testing.assert_allclose(after(schedule, values)[:-1], expected[1:], **CLOSE)


# Refusals


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Step(0), ValueError, "step_size must be at least 1, got 0"),
        (lambda: Step(1.5), TypeError, r"step_size must be a whole number, got 1\.5"),
        (lambda: Step(1, 0), ValueError, "gamma must be above 0, got 0"),
        (lambda: Exponential(-0.5), ValueError, r"gamma must be above 0, got -0\.5"),
        (lambda: Exponential(NAN), ValueError, "gamma must be finite, got nan"),
        (lambda: Exponential("fast"), TypeError, "gamma must be a number, got 'fast'"),
        (lambda: InverseScaling(-1), ValueError, "power must be at least 0, got -1: below 0"),
        (lambda: Cosine(warmup=1), ValueError, "warmup must be at least 0 and below 1, got 1$"),
        (lambda: Cosine(restarts=-1), ValueError, "restarts must be at least 0, got -1"),
        (lambda: Cosine(minimum=-0.1), ValueError, r"minimum must be at least 0 .*got -0\.1$"),
        (lambda: Cosine(t_mult=0), ValueError, "t_mult must be at least 1, got 0"),
        (lambda: OneCycle(NAN), ValueError, "pct_start must be finite, got nan"),
        (lambda: OneCycle(1.0), ValueError, r"pct_start must be at least 0 and below 1, got 1\.0$"),
        (lambda: OneCycle(anneal_strategy="lin"), ValueError,
         "anneal_strategy must be one of cos, linear, got 'lin'; did you mean 'linear'"),
        (lambda: OneCycle(div_factor=0), ValueError, "div_factor must be above 0, got 0"),
        (lambda: OneCycle(final_div_factor=NAN), ValueError, "final_div_factor must be finite"),
        (lambda: OneCycle(0.6, three_phase=True), ValueError, r"pct_start must be at most 0\.5"),
        (lambda: Lambda(0.5), TypeError, r"function must be a function of the progress, got 0\.5"),
        (lambda: ReduceOnPlateau(1.0), ValueError, r"factor must be above 0 and below 1, got 1\.0"),
        (lambda: ReduceOnPlateau(0), ValueError, "factor must be above 0 and below 1, got 0"),
        (lambda: ReduceOnPlateau(patience=-1), ValueError, "patience must be at least 0, got -1"),
        (lambda: ReduceOnPlateau(threshold=1), ValueError, "threshold must be at least 0 and be"),
        (lambda: ReduceOnPlateau(min_lr=-1), ValueError, "min_lr must be at least 0, got -1"),
        (lambda: ReduceOnPlateau(monitor="val_los"), ValueError,
         "monitor must be one of .*, got 'val_los'; did you mean 'val_loss'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()


# The classes


def test_schedules_are_values():
    schedule = Cosine(0.1, 2)
    assert schedule == Cosine(0.1, 2) == pickle.loads(pickle.dumps(schedule))
    assert copy.deepcopy(schedule) == schedule != Cosine(0.1)
    with pytest.raises(FrozenInstanceError):
        schedule.warmup = 0.2


def test_every_schedule_is_documented():
    found = [cls for cls in vars(schedules).values() if isinstance(cls, type)]
    public = [cls for cls in found if issubclass(cls, Schedule) and cls.__name__[0] != "_"]
    assert len(public) == 9
    assert all(cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(") for cls in public)
