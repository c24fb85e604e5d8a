"""report.html, the page that `fastmlp train` leaves of a training."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from .. import plotting
from .._page._subject import words
from ..datasets import Dataset
from ..mlp import MLP
from ..presets import Preset, has_momentum
from .resume import Job


def write_page(
    out: Path, data: Dataset, mlp: MLP, preset: Preset, job: Job, remarks: list[tuple[str, str]]
) -> list[Path]:
    """The file in the folder out. Raises OSError, which names it, when it cannot be written.

    remarks : more lines for the table of options
    """
    path = out / "report.html"
    plotting.page(
        mlp, data.test_x, data.test_y, path, title=data.name, image_shape=data.image_shape,
        names=_names(data),
        more={
            "Options": [*_options(preset, job.options), *remarks],
            "Load the network": _how_to_load(out / "model.safetensors", mlp),
            "Train it again": command_line(job),
        },
    )  # fmt: skip
    return [path]


def _how_to_load(path: Path, mlp: MLP) -> str:
    load = f"mlp = MLP.load({str(path)!r})"
    if mlp.schema is None:
        return f"from fastmlp import MLP\n{load}\nmlp.predict(x)  # x: (N, {mlp.input_size})"
    classes = mlp.schema.classes is not None
    predict = "[mlp.schema.class_names[k] for k in mlp.predict(x)]" if classes else "mlp.predict(x)"
    rows = 'x = datasets.load_rows("table.csv", mlp.schema).x'
    return f"from fastmlp import MLP, datasets\n{load}\n{rows}\n{predict}"


def _names(data: Dataset) -> list[str] | None:
    """What the classes or the targets are called, where the data tell."""
    return None if data.schema is None else list(data.schema.class_names or data.schema.targets)


def _options(preset: Preset, options: dict[str, Any]) -> list[tuple[str, str]]:
    """All that decide on the training, whether they were given or come from the preset."""
    fields = dataclasses.asdict(preset)
    if not has_momentum(preset.optimizer):
        del fields["momentum"]
    kept = ("dataset", "target", "task", "preset", "seed", "dtype", "compute_dtype", "shards")
    chosen = {name: options[name] for name in kept if options[name] is not None}
    return [(name.replace("_", " "), words(value)) for name, value in (chosen | fields).items()]


def command_line(job: Job) -> str:
    """What trains the same network again, for a shell."""
    words = ["fastmlp", "train", job.options["dataset"]]
    given = {name: value for name, value in job.options.items() if name != "dataset"}
    for name, value in sorted((given | {"data_dir": job.data_dir}).items()):
        option = name.replace("_", "-")
        if value is True:
            words.append(f"--{option}")
        elif value is False and name == "batchnorm":
            words.append(f"--no-{option}")
        elif value is not None and value is not False:
            words += [f"--{option}", str(value)]
    return shlex.join(words)
