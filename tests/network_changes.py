"""What a callback, or anybody else, may do to a network: functions of it and of a number."""

import contextlib
import copy

import numpy as np

import fastmlp
from fastmlp import BatchNorm, LayerNorm, Linear
from tests.blocks import Watched, cut, readers_alive
from tests.interrupts import Raise
from tests.network_states import ACTIVATIONS, DATA, OPTIMIZERS, X, fit


def new_linear(mlp, k):
    k %= mlp.nlayers
    old, rng = mlp.linear_layers[k], np.random.default_rng(k)
    mlp.linear_layers[k] = Linear(
        old.in_feature, old.out_feature, lambda i, o: rng.standard_normal((i, o)) / 2,
        lambda o: np.zeros((1, o)),
    )  # fmt: skip
    the_former_is_free(mlp, old, "W")


def new_norm(mlp, k):
    for layers, norm in ((mlp.bn_layers, BatchNorm), (mlp.ln_layers, LayerNorm)):
        if len(layers):
            old, layers[0] = layers[0], norm(mlp.hiddens[0])
            the_former_is_free(mlp, old, "gamma")
    if mlp.num_bn_layers:
        mlp.bn_layers[0].alpha = 0.5


def the_former_is_free(mlp, old, name):
    """What becomes of a layer whose place another has taken is not the network's concern."""
    before = mlp.parameters.copy()
    setattr(old, name, getattr(old, name) + 1)
    np.testing.assert_array_equal(mlp.parameters, before)


def new_activation(mlp, k):
    name = ["tanh", "negative slope", "own", "relu"][k % 4]
    mlp.activations[0] = ACTIVATIONS[name]()


def new_optimizer(mlp, k):
    former, given = mlp.optimizer, list(OPTIMIZERS.values())[k % len(OPTIMIZERS)]()
    mlp.optimizer, rate = given, given.lr
    former.lr = given.lr = 9.0
    former.average = given.average = None if mlp.averages.size else 0.5
    assert mlp.lr == rate
    assert bool(mlp.averages.size) == (mlp.optimizer.average is not None)


def some(*shape):
    return 0.25 + np.arange(np.prod(shape)).reshape(shape) % 7 / 8


def write_buffer(mlp, k):
    """Without reading it before, which would bring it up to date."""
    name = ("parameters", "velocities", "gradients", "statistics")[k % 4]
    setattr(mlp, name, some(getattr(mlp.layout, name, mlp.layout.parameters)))


def write_layer(mlp, k):
    layer = mlp.linear_layers[k % mlp.nlayers]
    layer.W = some(layer.in_feature, layer.out_feature)
    layer.b = layer.b + np.ones(layer.b.shape, np.int32)
    layer.momentum_W = 0 * layer.momentum_W
    layer.dW = np.ones_like(layer.dW)
    layer.W[0] *= 0.5


def write_nan(mlp, k):
    mlp.linear_layers[0].b[0, k % mlp.linear_layers[0].out_feature] = np.nan


def new_dropout(mlp, k):
    mlp.dropout = [0.5, 0.0, 0.2][k % 3]


def new_average(mlp, k):
    mlp.optimizer.average = [0.5, None][k % 2]


def new_compute_dtype(mlp, k):
    mlp.compute_dtype = None if k % 2 else {4: "bfloat16", 8: "float64"}[mlp.dtype.itemsize]


def by_hand(mlp, k):
    mlp.forward(X[: 5 + k])
    mlp.backward(DATA.targets(mlp)[: 5 + k])
    mlp.step()


def fit_inside(mlp, k):
    outer = mlp.history
    inner = fit(mlp, seed=k, epochs=1 + k % 2, batch_size=8)
    assert mlp.history in (inner, outer)


CHANGES = {
    "lr": lambda m, k: setattr(m, "lr", 0.01 * (1 + k)),
    "decay": lambda m, k: setattr(m, "weight_decay", 0.001 * k),
    "reduction": lambda m, k: setattr(m, "batchnorm_reduction", ["sum", "mean"][k % 2]),
    "dropout": new_dropout,
    "dropout seed": lambda m, k: setattr(m, "dropout_seed", k),
    "dropout steps": lambda m, k: setattr(m, "dropout_steps", k),
    "updates": lambda m, k: setattr(m, "updates", 2 * k),
    "mode": lambda m, k: m.train() if k % 2 else m.eval(),
    "compute dtype": new_compute_dtype,
    "optimizer": new_optimizer,
    "average": new_average,
    "linear layer": new_linear,
    "norm": new_norm,
    "activation": new_activation,
    "all activations": lambda m, k: setattr(m, "activations", list(m.activations)),
    "buffer": write_buffer,
    "layer": write_layer,
    "zero": lambda m, k: m.zero_grads(),
    "by hand": by_hand,
}


def fit_interrupted(mlp, k):
    callback = Raise("on_progress", 1 + k % 3, RuntimeError("mine"))
    with contextlib.suppress(RuntimeError):
        fit(mlp, seed=k, epochs=2, batch_size=8, callbacks=[callback])


def training_stats(mlp, k):
    return repr(fastmlp.get_training_stats(mlp, ((X, DATA.rows),) * 3, 1 + k % 2, 8))


def fit_blocks(mlp, k):
    """Of blocks that lie across the ends of batches and windows; one of them may be refused."""
    blocks = cut((X, DATA.targets(mlp)), [1 + k % 5, 9, 9 + k % 7])
    if k % 3 == 0:
        blocks[2] = blocks[2][0], None
    with contextlib.suppress(TypeError):
        mlp.fit(Watched(blocks), seed=k, epochs=2, batch_size=8, window=8 + k % 9)
    assert readers_alive() == []


NESTED = {
    "fit": fit_inside,
    "fit from blocks": fit_blocks,
    "fit that is interrupted": fit_interrupted,
    "training stats": training_stats,
    "predict": lambda m, k: m.predict(X[: 1 + k]).tolist(),
    "evaluate": lambda m, k: m.evaluate(X, DATA.targets(m)),
    "copy": lambda m, k: fit(copy.deepcopy(m), seed=k, epochs=1).step_loss,
    "nan": write_nan,
}
