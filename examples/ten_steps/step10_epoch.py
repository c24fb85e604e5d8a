"""Step 10, the compiled epoch: fastmlp itself, which does all of this for any network."""

import numpy as np

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy

from . import setting

DTYPE = np.float32


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    w1, b1, w2, b2 = parameters
    weights, biases = iter([w1, w2]), iter([b1, b2])
    mlp = MLP(
        len(w1),
        b2.size,
        [b1.size],
        [ReLU(), Identity()],
        lambda inputs, outputs: next(weights),
        lambda outputs: next(biases),
        SoftmaxCrossEntropy(),
        lr=float(setting.RATE),
        momentum=float(setting.MOMENTUM),
        dtype=DTYPE,
    )
    history = mlp.fit(x, labels, epochs=epochs, batch_size=setting.BATCH, seed=seed)
    parameters = [array for layer in mlp.linear_layers for array in (layer.W, layer.b)]
    return parameters, history.train_loss


if __name__ == "__main__":
    setting.run(train, DTYPE)
