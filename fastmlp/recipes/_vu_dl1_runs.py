"""The experiments of VU Deep Learning, assignment 1: gradients by hand, and nine figures.

MNIST is trained on pixels from 0 to 255, as the course's loader returns them and the write-up's
code takes them: with those, and not with pixels in [0, 1], 0.003 is the best of its learning rates
and brings the accuracy that it reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..history import History
from ..initializers import lecun_normal, zeros
from ..layers import Identity, Sigmoid, SoftmaxCrossEntropy
from ..mlp import MLP
from ..sweeps import train_many
from . import _numpy, vu_dl1
from ._experiment import (
    Advance,
    Measure,
    Outcome,
    Recipe,
    Setting,
    Split,
    compare,
    seconds_of,
    split_mnist,
)
from ._figures import ACCURACY, LOSS, Line, Panel, draw, percent

LR, BATCH_SIZE, EPOCHS, FINAL_EPOCHS = 0.003, 16, 5, 15
RATES, SIZES, SEEDS = (0.001, 0.003, 0.01, 0.03), (8, 16, 32, 64), range(5)

# Batches over which the loss per batch is averaged.
SMOOTHING = 200


class Run(NamedTuple):
    """What is varied."""

    seed: int = 0
    lr: float = LR
    batch_size: int = BATCH_SIZE


def deviation_by_hand() -> float:
    """Largest deviation of the 2-3-2 network's loss and gradients from those in the write-up."""
    inputs, target = [1, -1], [1, 0]
    w1, w2 = [[1, -1], [1, -1], [-1, 1]], [[1, -1, -1], [1, -1, -1]]
    state = vu_dl1.forward_pass(inputs, w1, [0, 0, 0], w2, [0, 0])
    loss = vu_dl1.cross_entropy(state[3], target)
    gradients = vu_dl1.backward_pass(inputs, *state, target, w2)
    row = [-0.44039853898894116, -0.44039853898894116, -0.05960146101105877]
    expected = [
        [0.5, 0.5], [0.6931471805599453], np.zeros((3, 2)), np.zeros(3),
        [row, [-v for v in row]], [-0.5, 0.5],
    ]  # fmt: skip
    got = [state[3], [loss], *gradients]
    pairs = zip(got, expected, strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def experiments(setting: Setting) -> Outcome:
    """All of the write-up's figures 2 to 10."""
    data = split_mnist(setting, valid=5000)
    train = data.train_x.astype(np.float32), data.train_y
    valid = data.valid_x.astype(np.float32), data.valid_y
    results, seconds = seconds_of(lambda: _train_all(setting, train, valid, data))
    synth, full_batch, sweep, (final, test_accuracy) = results
    pictures = _draw_all(setting, synth, full_batch, sweep, final)
    accuracies = [1 - sweep[Run(seed)].val_error[-1] for seed in SEEDS]
    by_rate = {lr: 1 - sweep[Run(lr=lr)].val_error[-1] for lr in RATES}
    return Outcome(
        "vu_dl1",
        f"784-300-10 sigmoid, pixels 0 to 255, {len(sweep[Run()].train_loss)} epochs, "
        f"batch {BATCH_SIZE}, lr {LR:g}, "
        "float32, unless said otherwise",
        [
            Measure("2-3-2 net: deviation from the hand-checked values", 0, deviation_by_hand(),
                    at_most=1e-12),
            Measure("synthetic data, 2-3-2: training loss", None, synth.train_loss[-1]),
            Measure("validation accuracy, mean of 5 seeds", 0.95, float(np.mean(accuracies)),
                    at_least=0.95),
            Measure("validation accuracy, standard deviation", None, float(np.std(accuracies))),
            Measure("best learning rate", LR, max(by_rate, key=lambda lr: by_rate[lr])),
            Measure(f"test accuracy, {len(final.train_loss)} epochs on all training images",
                    None, test_accuracy, at_least=0.95),
        ],
        pictures,
        seconds,
        _timing(setting, train, valid),
    )  # fmt: skip


Part = tuple[np.ndarray, np.ndarray]


def _train_all(setting: Setting, train: Part, valid: Part, data: Split) -> Any:
    callbacks = setting.begin("VU 1: synthetic data, figure 2", setting.choose(10, 2))
    synth = _synthetic(setting, callbacks)
    epochs = setting.choose(100, 5)
    callbacks = setting.begin("VU 1: full batches, figure 3", epochs)
    full_batch = _network(Run(lr=0.1)).fit(
        *train, epochs=epochs, batch_size=len(train[0]), shuffle=False, validation_data=valid,
        callbacks=callbacks,
    )  # fmt: skip
    sweep = _sweep(setting, train, valid)
    final_epochs = setting.choose(FINAL_EPOCHS, 2)
    callbacks = setting.begin("VU 1: final run, figure 10", final_epochs)
    x = np.concatenate([train[0], valid[0]])
    test = data.test_x.astype(np.float32), data.test_y
    final = _network(Run()).fit(
        x, np.concatenate([train[1], valid[1]]), epochs=final_epochs, batch_size=BATCH_SIZE,
        seed=0, validation_data=test, callbacks=callbacks,
    )  # fmt: skip
    return synth, full_batch, sweep, (final, 1 - final.val_error[-1])


def _network(run: Run) -> MLP:
    return MLP(
        784, 10, [300], [Sigmoid(), Identity()], lecun_normal(run.seed), zeros,
        SoftmaxCrossEntropy(), run.lr,
    )  # fmt: skip


def _synthetic(setting: Setting, callbacks: Any) -> History:
    """2-3-2 on the synthetic data, one sample a step, lr 0.01, weights N(-1, 1)."""
    (x, y), (xv, yv), _ = vu_dl1.load_synth(*setting.choose((60_000, 10_000), (6_000, 1_000)))
    generator = np.random.default_rng(0)
    weights = generator.normal(-1, 1, (2, 3)), generator.normal(-1, 1, (3, 2))
    arrays = weights[0], np.zeros((1, 3)), weights[1], np.zeros((1, 2))
    x, xv = (vu_dl1.normalize_data(part).astype(np.float32) for part in (x, xv))
    return vu_dl1.network(x, arrays, 0.01, np.float32).fit(
        x, y, epochs=setting.choose(10, 2), batch_size=1, shuffle=False,
        validation_data=(xv, yv), callbacks=callbacks,
    )  # fmt: skip


def _sweep(setting: Setting, train: Part, valid: Part) -> dict[Run, History]:
    """Seeds, learning rates and batch sizes, all trained side by side."""
    runs = {Run(seed) for seed in SEEDS} | {Run(lr=lr) for lr in RATES}
    runs |= {Run(batch_size=size) for size in SIZES}
    # The longest first, so that no core is left with one at the end.
    order = sorted(runs, key=lambda run: (run.batch_size, run))
    epochs = setting.choose(EPOCHS, 1)
    setting.ticker.begin(
        f"VU 1: {len(order)} networks, figures 4 to 9, epochs each: {epochs}", epochs * len(order)
    )
    histories = train_many(
        (
            _network(run),
            {
                "x": train[0], "labels": train[1], "epochs": epochs,
                "batch_size": run.batch_size, "seed": run.seed, "validation_data": valid,
                "callbacks": [Advance(setting.ticker)],
            },
        )
        for run in order
    )  # fmt: skip
    return dict(zip(order, histories, strict=True))


def _timing(setting: Setting, train: Part, valid: Part) -> Any:
    def transcription() -> Any:
        parts = [(x.astype(float), np.eye(10)[y]) for x, y in (train, valid)]
        params = list(vu_dl1.xavier(784, 300, 10, 0))
        return lambda: _numpy.vu_training(parts[0], parts[1], params, 1, LR, BATCH_SIZE)

    return compare(
        setting, f"1 epoch in batches of {BATCH_SIZE}, then validation", transcription,
        lambda: _network(Run()).fit(*train, batch_size=BATCH_SIZE, validation_data=valid),
    )  # fmt: skip


def _draw_all(
    setting: Setting, synth: History, full_batch: History, sweep: dict[Run, History], final: History
) -> list[Any]:
    """Figures 2 to 10 of the write-up, by their numbers."""

    def path(number: int, name: str) -> Any:
        return setting.out / f"figure_{number:02}_{name}.png"

    base = f"MNIST, 784-300-10 sigmoid, lr {LR:g}, batch {BATCH_SIZE}"
    batches = _smoothed(sweep[Run()].step_loss)
    return [
        draw(
            path(2, "synthetic"),
            "Synthetic data, 2-3-2 sigmoid, lr 0.01, one sample a step",
            Panel(LOSS, [Line("training", synth.train_loss)]),
        ),
        draw(
            path(3, "full_batch"), "MNIST, 784-300-10 sigmoid, lr 0.1, full batch",
            *_two_panels(full_batch),
        ),
        draw(path(4, "batch_16"), f"{base}, seed 0", *_two_panels(sweep[Run()])),
        draw(
            path(5, "loss_per_batch"), f"{base}, seed 0: moving average of {SMOOTHING} batches",
            Panel(
                LOSS,
                [Line(f"mean of {SMOOTHING} batches", batches)], "batch",
                np.arange(len(batches)) + 1 + (len(sweep[Run()].step_loss) - len(batches)),
            ),
        ),
        draw(path(6, "train_and_validation"), f"{base}, seed 1", *_two_panels(sweep[Run(1)])),
        draw(
            path(7, "seeds"), f"{base}: mean ± standard deviation of {len(SEEDS)} seeds",
            *_spread_panels([sweep[Run(seed)] for seed in SEEDS]),
        ),
        draw(
            path(8, "learning_rates"), f"MNIST, 784-300-10 sigmoid, batch {BATCH_SIZE}",
            *_comparison({f"lr {lr:g}": sweep[Run(lr=lr)] for lr in RATES}),
        ),
        draw(
            path(9, "batch_sizes"), f"MNIST, 784-300-10 sigmoid, lr {LR:g}",
            *_comparison({f"batch {size}": sweep[Run(batch_size=size)] for size in SIZES}),
        ),
        draw(
            path(10, "final"), f"{base}: final run on all training images, seed 0",
            *_two_panels(final, "test"),
        ),
    ]  # fmt: skip


def _smoothed(losses: Sequence[float]) -> np.ndarray:
    """Moving average over SMOOTHING batches, or over all where there are fewer."""
    width = min(SMOOTHING, len(losses))
    return np.convolve(losses, np.full(width, 1 / width), "valid")


def _accuracies(errors: Sequence[float]) -> np.ndarray:
    return percent(1 - np.asarray(errors))


def _two_panels(history: History, held_out: str = "validation") -> list[Panel]:
    return [
        Panel(LOSS, [Line("training", history.train_loss), Line(held_out, history.val_loss)]),
        Panel(
            ACCURACY,
            [
                Line("training", _accuracies(history.train_error)),
                Line(held_out, _accuracies(history.val_error)),
            ],
        ),
    ]


def _spread_panels(histories: Sequence[History]) -> list[Panel]:
    def line(label: str, rows: Any) -> Line:
        return Line(label, np.mean(rows, axis=0), np.std(rows, axis=0))

    return [
        Panel(
            LOSS,
            [
                line("training", [h.train_loss for h in histories]),
                line("validation", [h.val_loss for h in histories]),
            ],
        ),
        Panel(
            ACCURACY,
            [
                line("training", [_accuracies(h.train_error) for h in histories]),
                line("validation", [_accuracies(h.val_error) for h in histories]),
            ],
        ),
    ]


def _comparison(histories: dict[str, History]) -> list[Panel]:
    return [
        Panel(f"training {LOSS}", [Line(k, h.train_loss) for k, h in histories.items()]),
        Panel(f"validation {LOSS}", [Line(k, h.val_loss) for k, h in histories.items()]),
        Panel(
            f"validation {ACCURACY}",
            [Line(k, _accuracies(h.val_error)) for k, h in histories.items()],
        ),
    ]


RECIPE = Recipe("vu_dl1", "VU Deep Learning 1: gradients by hand, nine figures", (experiments,))
