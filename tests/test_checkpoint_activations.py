"""Activations in files: their numbers, since format 4, and what is no such number."""

import numpy as np
import pytest

from fastmlp import MLP, LeakyReLU, ReLU, Softplus
from tests.networks import build

pytest.importorskip("safetensors", reason="files of networks need safetensors")

from tests.checkpoint_files import description_in, rewrite


def test_numbers_are_in_the_file(tmp_path):
    """None for the activations that have none."""
    build([5, 7, 6, 3], [lambda: LeakyReLU(0.25), ReLU, lambda: Softplus(2)]).save(tmp_path / "m")
    description = description_in(tmp_path / "m")
    assert description["activations"] == ["leaky_relu", "relu", "softplus"]
    assert description["activation_parameters"] == [0.25, None, 2]
    assert repr(list(MLP.load(tmp_path / "m").activations)) == (
        "[LeakyReLU(negative_slope=0.25), ReLU(), Softplus(beta=2.0)]"
    )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": 3, "activation_parameters": [None, None]}, "must have the fields"),
        (
            {"activation_parameters": [None]},
            r"activation_parameters must have 2 entries, got 1",
        ),
        ({"activation_parameters": ["1", None]}, r"field activation_parameters .*'1'"),
        ({"activation_parameters": [True, None]}, r"field activation_parameters .*True"),
        ({"activation_parameters": [0.5, None]}, r"relu has no number of its own, got 0\.5"),
        (
            {"activations": ["elu", "identity"], "activation_parameters": [np.nan, None]},
            r"alpha must be finite, got nan",
        ),
        ({"activations": ["own", "identity"]}, r"activation must be one of elu, .*'own'"),
    ],
)
def test_what_is_no_number_of_an_activation(metadata, message, tmp_path):
    build([5, 7, 3]).save(tmp_path / "m")
    rewrite(tmp_path / "m", metadata)
    with pytest.raises(ValueError, match=f"not a fastmlp network: .*{message}"):
        MLP.load(tmp_path / "m")
