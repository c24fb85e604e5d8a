"""How `fastmlp train` trains when it is not told otherwise: a preset for each data set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import optimizers, schedules
from .optimizers import Optimizer
from .schedules import ScheduleLike


@dataclass(frozen=True)
class Preset:
    """A network and how to train it; lr_schedule is one of ``SCHEDULES``, lr its highest rate.

    optimizer is one of ``OPTIMIZERS``; momentum is of those that have one. dropout is the share of
    the hidden layers' outputs, input_dropout that of the features.
    max_steps ends the training within an epoch; standardise gives the network pixels of mean 0 and
    variance 1; without validate all training samples are trained on.
    """

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    activation: str = "relu"
    batchnorm: bool = False
    momentum: float = 0.9
    max_steps: int | None = None
    standardise: bool = False
    validate: bool = True
    lr_schedule: str = "one-cycle"
    optimizer: str = "momentum"
    dropout: float = 0.0
    input_dropout: float = 0.0
    layernorm: bool = False
    label_smoothing: float = 0.0


_OF_DATA_SETS = {
    "mnist": Preset((512, 512), epochs=5, batch_size=128, lr=0.2),
    "fashion-mnist": Preset((512, 512), epochs=10, batch_size=128, lr=0.1, batchnorm=True),
    "notmnist": Preset((512, 512), epochs=10, batch_size=64, lr=0.05, batchnorm=True),
    "digits": Preset((256, 128), epochs=20, batch_size=32, lr=0.05, batchnorm=True),
    "synth": Preset((32, 32), epochs=5, batch_size=64, lr=0.2),
}
# Among the least training times found that reach 98.0 % on MNIST's test set as a mean over seeds:
# 98.01 % over 200 that had no part in choosing it, standard deviation 0.10, so that a mean over ten
# may fall just below. 144 units in 2,810 steps, and 192 in 2,250, took as long within the noise.
PRESETS = {
    "speedrun": Preset(
        (160,),
        epochs=3,
        batch_size=64,
        lr=0.05,
        max_steps=2600,
        standardise=True,
        validate=False,
    ),
    # For the fewest errors on MNIST: over three seeds each, two layers of 1280 reached 98.93 %, of
    # 1024 98.87 % (and 91.2 % on Fashion-MNIST).
    "accurate": Preset(
        (1280, 1280),
        epochs=40,
        batch_size=128,
        lr=0.002,
        batchnorm=True,
        optimizer="adamw",
        dropout=0.4,
        input_dropout=0.1,
        label_smoothing=0.1,
        validate=False,
    ),
}
# Batch norm makes up for features of different scales.
_DEFAULT = Preset((256, 256), epochs=20, batch_size=64, lr=0.05, batchnorm=True)


def preset_for(dataset: str) -> Preset:
    """The preset of the data set of that name; all without one of their own share another."""
    return _OF_DATA_SETS.get(dataset, _DEFAULT)


def one_cycle(peak: float, warmup: float = 0.2) -> Callable[[float], float]:
    """The learning rate as a function of progress in [0, 1]: up to peak and down again, linearly.

    warmup : the share of the training that it rises for, starting at a tenth of the peak; at the
        end it is 0. After Smith and Topin 2019, "Super-convergence".
    """

    def rate(progress: float) -> float:
        if progress < warmup:
            return peak * (0.1 + 0.9 * progress / warmup)
        return peak * (1 - progress) / (1 - warmup)

    return rate


SCHEDULES = ("constant", "step", "exponential", "cosine", "one-cycle", "inverse-scaling", "plateau")


def schedule_for(preset: Preset, validation: bool) -> ScheduleLike:
    """What ``fit`` takes for the schedule that the preset names, one of ``SCHEDULES``.

    validation : whether there are data to see a plateau on, besides those that are trained on
    """
    monitor = "val_loss" if validation else "train_loss"
    known: dict[str, ScheduleLike] = {
        "constant": schedules.Constant(),
        # Down to a hundredth by the end: in two steps, or from epoch to epoch.
        "step": schedules.Step(-(-preset.epochs // 3)),
        "exponential": schedules.Exponential(0.01 ** (1 / preset.epochs)),
        "cosine": schedules.Cosine(warmup=0.05),
        "one-cycle": one_cycle(preset.lr),
        "inverse-scaling": schedules.InverseScaling(),
        "plateau": schedules.ReduceOnPlateau(factor=0.5, patience=1, monitor=monitor),
    }
    return known[preset.lr_schedule]


OPTIMIZERS: dict[str, Any] = {name.lower(): cls for name, cls in optimizers.BY_NAME.items()}


def has_momentum(optimizer: str) -> bool:
    """Whether the optimizer of that name, one of ``OPTIMIZERS``, has a momentum to be chosen."""
    return "momentum" in OPTIMIZERS[optimizer].__dataclass_fields__


def optimizer_for(preset: Preset) -> Optimizer:
    """The update rule that the preset names, with its rate."""
    options = {"momentum": preset.momentum} if has_momentum(preset.optimizer) else {}
    optimizer: Optimizer = OPTIMIZERS[preset.optimizer](lr=preset.lr, **options)
    return optimizer


def usual_rate(optimizer: str) -> float | None:
    """The learning rate that an optimizer has by default; None where it must be given."""
    rate = OPTIMIZERS[optimizer].__dataclass_fields__["lr"].default
    return rate if isinstance(rate, float) else None
