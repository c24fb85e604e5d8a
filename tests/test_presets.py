"""The recipes of `fastmlp train` and their learning-rate schedule."""

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.layers import activation_named
from fastmlp.presets import one_cycle, recipe_for


def test_one_cycle_rises_to_the_peak_and_falls_to_zero():
    rate = one_cycle(0.5, warmup=0.25)
    assert [rate(progress) for progress in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx(
        [0.05, 0.275, 0.5, 0.25, 0]
    )
    rates = [rate(progress) for progress in np.linspace(0, 1, 101)]
    assert all(np.diff(rates[:26]) > 0)
    assert all(np.diff(rates[25:]) < 0)


def test_one_cycle_without_warmup():
    assert one_cycle(0.5, warmup=0)(0) == 0.5


def test_every_named_data_set_has_a_recipe_of_its_own():
    default = recipe_for("an archive")
    for entry in datasets.available():
        recipe = recipe_for(entry.name)
        assert recipe is not default
        assert activation_named(recipe.activation)
