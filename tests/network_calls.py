"""Calls of a network, good ones and bad ones, and what must be so after them."""

import copy
import warnings

import numpy as np

from fastmlp.callbacks import EarlyStopping
from tests import network_states as states
from tests.interrupts import Act
from tests.network_changes import CHANGES, NESTED
from tests.network_states import DATA, ROWS, X, assert_same, facts, fit, identities

REFUSED = (
    ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, IndexError, OSError,
)  # fmt: skip
# What leaves the network another one.
LASTING = CHANGES | {"fit": NESTED["fit"]}


def options_for(mlp, options):
    """With new objects where a name stands for one."""
    options = dict(options)
    if "sample_weight" in options:
        options["sample_weight"] = DATA.weights
    if "validation_data" in options:
        options["validation_data"] = X[:7], DATA.targets(mlp)[:7], DATA.weights[:7]
    if options.get("callbacks") == "early":
        options["callbacks"] = [EarlyStopping(1, "train_loss")]
    if options.get("drop_last") and options["batch_size"] > ROWS:
        options["batch_size"] = ROWS
    return options


def change_between(first, second, act, k, epochs, batch_size):
    options = {"batch_size": batch_size, "shuffle": False}
    callback = Act("on_epoch_end", lambda m: act(m, k))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(first, epochs=epochs, callbacks=[callback], **options)
        for _ in range(epochs):
            ended = not np.isfinite(fit(second, **options).train_loss[-1])
            act(second, k)
            if ended:
                break
    second.history = copy.deepcopy(first.history)


def assert_refused(mlp, name, call):
    """It raises, and everything is as before, byte for byte."""
    generator = np.random.default_rng(7)
    before = facts(mlp), identities(mlp), states.global_bits(), states.generator_bits(generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call(mlp, generator)
        except (*REFUSED, RuntimeWarning):
            pass
        else:
            raise AssertionError(f"not refused: {name}")
    assert_same(facts(mlp), before[0], f"changed by {name}")
    assert identities(mlp) == before[1], name
    assert (states.global_bits(), states.generator_bits(generator)) == before[2:], name
