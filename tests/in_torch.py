"""What networks and modules of PyTorch have in common, for the tests that have PyTorch."""

import torch
from numpy.testing import assert_array_equal

from tests.exchange import TOLERANCE
from tests.networks import assert_close


def outputs_in_torch(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def assert_same_outputs(mlp, module, x):
    """In evaluation mode, of both, to the rounding of the dtype."""
    found = outputs_in_torch(module.eval(), x)
    assert found.dtype == mlp.dtype
    assert_close(mlp._outputs(x), found, TOLERANCE[mlp.dtype.type])


def assert_same_network(mlp, other):
    """To the bit, all that a module holds."""
    assert_array_equal(other.parameters, mlp.parameters)
    assert_array_equal(other.statistics, mlp.statistics)
    assert (other.dtype, other.dropout, other.embeddings) == (
        mlp.dtype, mlp.dropout, mlp.embeddings,
    )  # fmt: skip
    assert list(map(repr, other.activations)) == list(map(repr, mlp.activations))
    assert [norm.alpha for norm in other.bn_layers] == [norm.alpha for norm in mlp.bn_layers]
