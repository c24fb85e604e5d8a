"""State is never half changed: histories of calls, good ones, bad ones and interrupted ones.

A machine drives two networks that get the same calls, the second on another number of threads and
now and then replaced by a copy of itself. After every call they are equal to the bit; a call that
is refused leaves everything as it was; an interrupt leaves the last finished step.
"""

import contextlib
import copy
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import fastmlp
from fastmlp import MLP, Linear, schedules
from fastmlp.engine import Trainer
from fastmlp.threads import Crew
from tests import network_states as states
from tests.bad_calls import BAD_CALLS
from tests.interrupts import EVENTS, Act, CtrlC, Raise
from tests.network_calls import LASTING, assert_refused, change_between, options_for
from tests.network_changes import CHANGES, NESTED
from tests.network_states import DATA, ROWS, X, assert_same, facts, fit, identities

# What a file keeps no trace of.
NOT_IN_FILES = ("gradients", "history", "output", "train_mode", "attributes")

SEEDS = st.integers(0, 3)
BATCH_SIZES = st.sampled_from([5, 8, ROWS, 100])
OPTIONS = st.fixed_dictionaries(
    {"seed": SEEDS, "batch_size": BATCH_SIZES, "epochs": st.integers(0, 3)},
    optional={
        "shuffle": st.just(False),
        "drop_last": st.just(True),
        "max_steps": st.integers(0, 9),
        "accumulate": st.integers(2, 3),
        "sample_weight": st.just("weights"),
        "validation_data": st.just("validation"),
        "callbacks": st.just("early"),
        "check_finite": st.just(False),
        "lr_schedule": st.sampled_from(
            [
                schedules.Step(1), schedules.InverseScaling(), schedules.Cosine(),
                schedules.ReduceOnPlateau(patience=0, monitor="train_loss"),
                lambda t: 0.1 * (1 - t),
            ]
        ),
        "decay_schedule": st.just(lambda t: 1 - t),
        "dropout_schedule": st.just(lambda t: 1 - t / 2),
    },
)  # fmt: skip
ERRORS = (KeyboardInterrupt, RuntimeError, SystemExit)


class Machine(RuleBasedStateMachine):
    """``mlp`` and its ``twin``."""

    folder = None

    @initialize(
        shape=st.sampled_from(sorted(states.SHAPES)),
        dtype=st.sampled_from(states.DTYPES),
        optimizer=st.sampled_from(sorted(states.OPTIMIZERS)),
        activation=st.sampled_from(sorted(states.ACTIVATIONS)),
        criterion=st.sampled_from(sorted(states.CRITERIA)),
        dropout=st.sampled_from(states.DROPOUTS),
        # Several wait for each other, for long where other processes have the cores.
        threads=st.sampled_from([1, 1, 1, 2, 3]),
        long_calls=st.booleans(),
    )
    def begin(self, threads, long_calls, **names):
        self.mlp, self.twin = states.network(**names), states.network(**names)
        self.threads = threads
        # How many steps a call has must not depend on the clock: 1, or twice as many every time.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("fastmlp._pace.SECONDS_PER_CALL", 1e9 if long_calls else 0)
        self.patch.setattr("fastmlp._pace.TRIALS", False)
        self.both(lambda m: None)

    def teardown(self):
        if hasattr(self, "patch"):
            self.patch.undo()

    def both(self, act, error=()):
        """Have both do the same, and compare what comes of it; returns what the first one gave."""
        results = []
        for mlp, threads in ((self.mlp, 1), (self.twin, self.threads)):
            fastmlp.set_num_threads(threads)
            np.random.seed(3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = act(mlp)
            results.append((result, states.global_bits()))
        fastmlp.set_num_threads(1)
        (first, randomness), (second, other) = results
        assert randomness == other
        assert repr(first) == repr(second)
        assert_same(facts(self.twin), facts(self.mlp), "twins differ")
        self.check_views()
        return first

    def check_views(self):
        """The layers' arrays are still the flat buffers' memory."""
        for mlp in (self.mlp, self.twin):
            for layer in (*mlp.linear_layers, *mlp.bn_layers, *mlp.ln_layers):
                assert np.shares_memory(getattr(layer, layer.parameters[0][0]), mlp.parameters)

    # Calls that work

    @rule(rows=st.integers(1, ROWS), kind=st.sampled_from(sorted(DATA.x)))
    def forward(self, rows, kind):
        self.both(lambda m: states.bits_of(m.forward(DATA.x[kind][:rows])))

    @rule(weighted=st.booleans())
    def backward(self, weighted):
        def act(mlp):
            if mlp.output is None:
                return
            rows = len(mlp.output)
            weights = DATA.weights[:rows] if weighted else None
            mlp.backward(DATA.targets(mlp)[:rows], weights)

        self.both(act)

    @rule()
    def step(self):
        before = self.mlp.updates
        self.both(lambda m: m.step())
        assert self.mlp.updates == before + 1

    @rule(name=st.sampled_from(sorted(CHANGES)), k=st.integers(0, 9))
    def change(self, name, k):
        self.both(lambda m: CHANGES[name](m, k))

    @rule(options=OPTIONS, kind=st.sampled_from(sorted(DATA.x)), generator=st.booleans())
    def fit(self, options, kind, generator):
        def act(mlp):
            given = options_for(mlp, options)
            if generator:
                given["seed"] = np.random.default_rng(given["seed"])
            history = fit(mlp, x=DATA.x[kind], **given)
            assert mlp.history is history
            drawn = states.generator_bits(given["seed"]) if generator else None
            return states.figures_of(history), drawn

        self.both(act)

    @rule(epochs=st.integers(0, 2))
    def training_stats(self, epochs):
        sets = ((X, DATA.rows),) * 3

        def act(mlp):
            return [states.bits_of(c) for c in fastmlp.get_training_stats(mlp, sets, epochs, 8)]

        self.both(act)

    @rule(rows=st.integers(1, ROWS), alone=st.booleans())
    def look(self, rows, alone):
        """Nothing changes, and what follows is the same for a network that nobody looked at."""
        before = facts(self.mlp), identities(self.mlp)

        def act(mlp):
            targets = DATA.targets(mlp)[:rows]
            figures = mlp.figures(X[:rows], targets), mlp.evaluate(X[:rows], targets)
            repr(mlp)
            return figures, mlp.score(X[:rows], targets), mlp.predict(X[:rows]).tolist()

        if alone:
            act(self.mlp)
        else:
            self.both(act)
        assert_same(facts(self.mlp), before[0], "changed by a look")
        assert identities(self.mlp) == before[1]

    @rule(way=st.sampled_from(["copy", "deepcopy", "pickle"]))
    def duplicate(self, way):
        take = {"copy": copy.copy, "deepcopy": copy.deepcopy,
                "pickle": lambda m: pickle.loads(pickle.dumps(m))}[way]  # fmt: skip
        self.twin = take(self.twin)
        self.both(lambda m: None)

    @precondition(lambda self: self.folder is not None)
    @rule()
    def save_and_load(self):
        path = self.folder / "network"
        try:
            self.twin.save(path)
        except ValueError as error:
            assert "a file keeps no functions" in str(error)  # noqa: PT017
            return
        loaded = MLP.load(path)
        kept = facts(self.twin)
        if not self.twin.drops:
            # A file has the seed of networks that drop.
            loaded.dropout_seed = self.twin.dropout_seed
            loaded.dropout_steps = self.twin.dropout_steps
        found = facts(loaded)
        for name in NOT_IN_FILES:
            found[name] = kept[name]
        assert_same(found, kept, "differs in the file")
        loaded.train_mode, loaded.history = self.twin.train_mode, copy.deepcopy(self.twin.history)
        self.twin = loaded
        # The last forward and backward are not in the file.
        self.mlp.output = None
        self.both(lambda m: m.zero_grads())

    # Calls that do not

    @rule(first=st.integers(0, len(BAD_CALLS) // 16))
    def refused(self, first):
        """Of all kinds; what follows is the same for the twin, which knows nothing of them."""
        for call in BAD_CALLS[first :: len(BAD_CALLS) // 16]:
            assert_refused(self.mlp, *call)

    @rule(
        options=OPTIONS,
        event=st.sampled_from(EVENTS),
        times=st.integers(1, 4),
        error=st.sampled_from(ERRORS),
    )
    def interrupted(self, options, event, times, error):
        """By a callback: the network is as of the last finished step."""
        options = {n: v for n, v in options.items() if n not in ("callbacks", "lr_schedule")}
        reference = copy.deepcopy(self.mlp)

        def act(mlp):
            given = options_for(mlp, options)
            given["seed"] = np.random.default_rng(given["seed"])
            raised = Raise(event, times, error())
            with contextlib.suppress(*ERRORS):
                fit(mlp, callbacks=[raised], **given)
            return raised.steps, states.generator_bits(given["seed"])

        steps, _ = self.both(act)
        self.as_told_to_stop(reference, options, steps)

    @rule(
        options=OPTIONS,
        calls=st.integers(1, 7),
        where=st.sampled_from(
            ["before train", "after train", "before pack", "before unpack", "before rates"]
        ),
    )
    def interrupted_by_ctrl_c(self, options, calls, where):
        """Which Python answers as compiled code begins, or once it has come back, or elsewhere."""
        when, method = where.split()
        if method in ("pack", "unpack"):
            calls = 1 + calls % 2  # There are no more.
        cls = schedules.Constant if method == "rates" else Trainer
        options = {n: v for n, v in options.items() if n not in ("callbacks", "lr_schedule")}
        reference, before = copy.deepcopy(self.mlp), facts(self.mlp)

        def act(mlp):
            with (
                CtrlC(calls, when, method, cls) as ctrl_c,
                contextlib.suppress(KeyboardInterrupt),
            ):
                fit(mlp, **options_for(mlp, options))
            return ctrl_c.steps

        steps = self.both(act)
        if method == "rates" and calls == 1:
            # A look at the schedule, before the fit begins.
            assert_same(facts(self.mlp), before, "changed before the fit")
        else:
            self.as_told_to_stop(reference, options, steps)

    @rule(rows=st.integers(1, ROWS), calls=st.integers(1, 3))
    def forward_that_raises(self, rows, calls):
        """In one of the layers, or in the panels, which have one call: there is no last forward
        then, and all else is as before."""
        before = facts(self.mlp)
        calls = min(calls, self.mlp.nlayers)
        with (
            CtrlC(calls, "before", "forward", Linear),
            CtrlC(1, "before", "run", Crew),
            pytest.raises(KeyboardInterrupt),
        ):
            self.mlp.forward(X[:rows])
        assert_same(facts(self.mlp), before | {"output": None}, "changed by half a forward")
        self.twin.output = None
        self.both(lambda m: None)

    @rule(options=OPTIONS, name=st.sampled_from(["fit", "x", "not a network"]))
    def side_by_side(self, options, name):
        """Both in one ``train_many``, once another one has been refused."""
        entries = [
            (m, {"x": X, "labels": DATA.targets(m)} | options_for(m, options))
            for m in (self.mlp, self.twin)
        ]
        before = facts(self.mlp)
        bad = {"fit": (self.mlp, {}), "x": (self.mlp, {"xx": X}), "not a network": (3, {})}[name]
        with pytest.raises((TypeError, ValueError)):
            fastmlp.train_many([entries[1], bad])
        assert_same(facts(self.mlp), before, "changed by train_many")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            histories = fastmlp.train_many(entries, max_workers=2)
        assert [m.history for m in (self.mlp, self.twin)] == histories
        self.both(lambda m: None)

    def as_told_to_stop(self, reference, options, steps):
        """As a network that was told to do only so many steps; of an epoch's figures, as many."""
        given = options_for(reference, options)
        if "decay_schedule" in given or "dropout_schedule" in given:
            return  # They go by the number of all steps.
        given["max_steps"] = steps
        given["epochs"] = max(1, given["epochs"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(reference, **given)
        history, whole = self.mlp.history, reference.history
        if np.isfinite(history.step_loss).all():  # Else it ended by itself.
            epochs = len(history.train_loss)
            assert history.step_loss == whole.step_loss
            assert history.train_loss == whole.train_loss[:epochs]
        found, expected = facts(self.mlp), facts(reference)
        found["history"] = expected["history"]
        # The one has come to its end, the other not.
        found["unfinished"] = expected["unfinished"]
        assert_same(found, expected, f"not as of step {steps}")

    @rule(
        options=OPTIONS,
        event=st.sampled_from(EVENTS[1:]),
        act=st.sampled_from(sorted(CHANGES.items())),
        k=st.integers(0, 9),
    )
    def changed_inside(self, options, event, act, k):
        self.fit_with(options, event, lambda m: act[1](m, k))

    @rule(
        options=OPTIONS,
        event=st.sampled_from(EVENTS[1:]),
        act=st.sampled_from(sorted(NESTED.items())),
        k=st.integers(0, 9),
    )
    def used_inside(self, options, event, act, k):
        self.fit_with(options, event, lambda m: act[1](m, k))

    @rule(
        batch_size=BATCH_SIZES,
        act=st.sampled_from(sorted(LASTING.items())),
        epochs=st.integers(1, 3),
        k=st.integers(0, 9),
    )
    def changed_between(self, batch_size, act, epochs, k):
        """By a callback of the one, and between fits of an epoch each of the other."""
        change_between(self.mlp, self.twin, act[1], k, epochs, batch_size)
        self.both(lambda m: None)

    def fit_with(self, options, event, change):
        """A fit with a callback that looks at the network, changes it, or trains it."""

        def act(mlp):
            callback = Act(event, change)
            history = fit(mlp, **(options_for(mlp, options) | {"callbacks": [callback]}))
            assert mlp.history is history
            return states.figures_of(history), callback.seen

        self.both(act)

    @rule(options=OPTIONS, event=st.sampled_from(EVENTS[1:]), call=st.sampled_from(BAD_CALLS))
    def refused_inside(self, options, event, call):
        """In a callback of the one; that of the other does not even look."""
        self.fit_with(options, event, lambda m: assert_refused(m, *call) if m is self.mlp else None)
