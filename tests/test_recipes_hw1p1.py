"""HW1P1's recipe: the drop-in names, and the transcription against the course's loop."""

import numpy as np
import pytest

import fastmlp
from fastmlp.recipes import hw1p1
from tests.networks import batch
from tests.reference import ReferenceMLP, reference_training_stats


def test_the_names_are_the_library_s():
    for name in set(hw1p1.__all__) - {"weight_init", "bias_init"}:
        assert getattr(hw1p1, name) is getattr(fastmlp, name)


def test_initialisers_are_the_course_s():
    np.random.seed(3)
    w = hw1p1.weight_init(4, 5)
    np.random.seed(3)
    np.testing.assert_array_equal(w, np.random.randn(4, 5))
    assert hw1p1.bias_init(5).tolist() == [[0] * 5]


@pytest.mark.parametrize("hiddens", [[], [8, 5]])
def test_transcription_gives_the_library_s_curves(hiddens):
    x, _, y = batch(33, 7, 4)
    xv, _, yv = batch(12, 7, 4, seed=5)

    def curves(cls, training_stats):
        np.random.seed(0)
        activations = [*(hw1p1.Sigmoid() for _ in hiddens), hw1p1.Identity()]
        mlp = cls(
            7, 4, hiddens, activations, hw1p1.weight_init, hw1p1.bias_init,
            hw1p1.SoftmaxCrossEntropy(), 0.05, 0.9,
        )  # fmt: skip
        return training_stats(mlp, ((x, y), (xv, yv), ((), ())), 5, 8)

    expected = curves(ReferenceMLP, reference_training_stats)
    np.testing.assert_allclose(curves(hw1p1.MLP, hw1p1.get_training_stats), expected, rtol=1e-9)
