"""Train a network on images, save it, and draw its curves: ``python examples/mnist.py [DATASET]``.

DATASET is what ``fastmlp datasets`` lists, by default mnist; digits is in the package. Writes
``model.safetensors`` and ``curves.png`` into the present folder. Needs the extras ``data``, ``io``
and ``plot``.
"""

import sys

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy, datasets, plotting
from fastmlp.callbacks import EarlyStopping
from fastmlp.initializers import he_normal, zeros
from fastmlp.optimizers import AdamW
from fastmlp.schedules import OneCycle


def network(inputs: int, classes: int) -> MLP:
    """Two hidden layers with batch norm and dropout."""
    return MLP(
        inputs,
        classes,
        [256, 256],
        [ReLU(), ReLU(), Identity()],
        he_normal(0),
        zeros,
        SoftmaxCrossEntropy(label_smoothing=0.05),
        optimizer=AdamW(lr=4e-3),
        num_bn_layers=2,
        dropout=0.2,
    )


def main(dataset: str = "mnist", epochs: int = 10) -> float:
    """The share of test images that the trained network gets right."""
    try:
        data = datasets.load(dataset)
    except datasets.DatasetError as error:
        sys.exit(f"{error}\nthe digits are in the package: python examples/mnist.py digits")
    held_out = len(data.train_x) // 10
    x, labels = data.train_x[:-held_out], data.train_y[:-held_out]
    mlp = network(x.shape[1], data.num_classes)
    history = mlp.fit(
        x,  # uint8 is scaled to [0, 1] while it is read
        labels,
        epochs=epochs,
        batch_size=128,
        seed=0,
        lr_schedule=OneCycle(),
        validation_data=(data.train_x[-held_out:], data.train_y[-held_out:]),
        callbacks=[EarlyStopping(patience=5)],
        progress=True,
    )
    plotting.curves(history, "curves.png")
    mlp.save("model.safetensors")
    return MLP.load("model.safetensors").score(data.test_x, data.test_y)


if __name__ == "__main__":
    print(f"{main(*sys.argv[1:]):.2%} of the test images are right")
