"""Small networks of every kind, their data, and the page about one of them."""

import numpy as np

from fastmlp import BinaryCrossEntropy, MeanSquaredError, plotting
from tests.html_pages import read
from tests.networks import build

ROWS = 200
NASTY = "</td><script>alert('&amp;')</script>\"<img src=x onerror=1>"


def data(outputs, features=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, features))
    return x, x @ rng.standard_normal((features, outputs)) + 0.5 * rng.standard_normal(
        (ROWS, outputs)
    )


def classes(outputs=4, **options):
    x, z = data(outputs, **options)
    return build([x.shape[1], 8, outputs], lr=0.02), x, z.argmax(axis=1)


def labels(**options):
    x, z = data(3, **options)
    mlp = build([x.shape[1], 8, 3])
    mlp.criterion = BinaryCrossEntropy()
    return mlp, x, (z > 0.3).astype(float)


def values(**options):
    x, z = data(2, **options)
    mlp = build([x.shape[1], 8, 2], lr=0.01)
    mlp.criterion = MeanSquaredError()
    return mlp, x, [2, 1] * z + [3, 0]


def trained(make, epochs=3, validation=True, **options):
    mlp, x, y = make(**options)
    mlp.fit(x, y, epochs=epochs, seed=0, validation_data=(x, y) if validation else None)
    return mlp, x, y


def page_of(tmp_path, mlp, x, y, **options):
    plotting.page(mlp, x, y, tmp_path / "page.html", **options)
    return read(tmp_path / "page.html")
