"""JAX: an epoch is one jitted scan over its batches, with the parameters donated."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._data import orders, training_set
from ._judge import Parameters, loss, wrong_share
from ._workloads import Workload

_ACTIVATIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}
_KEEP = 0.9


def _initial(workload: Workload) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(parameters, running statistics) of every layer."""
    parameters, statistics = [], []
    weights = workload.network.initial_weights(np.float32)
    for number, w in enumerate(weights):
        width = w.shape[1]
        layer = {"w": jnp.asarray(w), "b": jnp.zeros(width)}
        running = {}
        if workload.network.batchnorm and number < len(weights) - 1:
            layer |= {"gamma": jnp.ones(width), "beta": jnp.zeros(width)}
            running = {"mean": jnp.zeros(width), "var": jnp.ones(width)}
        parameters.append(layer)
        statistics.append(running)
    return parameters, statistics


def _forward(
    parameters: Any, statistics: Any, x: Any, activation: Any, product: Any = jnp.matmul
) -> tuple[Any, Any]:
    """(logits, running statistics after this batch), in training mode."""
    moved = []
    for number, (layer, running) in enumerate(zip(parameters, statistics, strict=True)):
        x = product(x, layer["w"]) + layer["b"]
        if running:
            mean, var = x.mean(axis=0), x.var(axis=0)
            x = layer["gamma"] * (x - mean) * jax.lax.rsqrt(var + 1e-8) + layer["beta"]
            running = {
                "mean": _KEEP * running["mean"] + (1 - _KEEP) * mean,
                "var": _KEEP * running["var"] + (1 - _KEEP) * var,
            }
        moved.append(running)
        if number < len(parameters) - 1:
            x = activation(x)
    return x, moved


def _rounded_product(x: Any, w: Any) -> Any:
    """x @ w of operands rounded to bfloat16, summed in float32."""
    return jnp.matmul(
        x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    )


def _epoch_function(workload: Workload, product: Any) -> Any:
    network = workload.network
    activation = _ACTIVATIONS[network.activation]

    def loss_of(parameters: Any, statistics: Any, x: Any, y: Any) -> tuple[Any, Any]:
        logits, moved = _forward(parameters, statistics, x, activation, product)
        return -(jax.nn.one_hot(y, 10) * jax.nn.log_softmax(logits)).sum(axis=1).mean(), moved

    def step(state: Any, batch: Any, x: Any, y: Any) -> tuple[Any, Any]:
        parameters, velocities, statistics = state
        (value, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, statistics, x[batch], y[batch]
        )

        def velocity_of(path: Any, v: Any, g: Any) -> Any:
            keep = 0.0 if path[-1].key in ("gamma", "beta") else network.momentum
            return keep * v - network.lr * g

        velocities = jax.tree_util.tree_map_with_path(velocity_of, velocities, gradients)
        parameters = jax.tree.map(jnp.add, parameters, velocities)
        return (parameters, velocities, statistics), value

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state: Any, x: Any, y: Any, order: Any) -> tuple[Any, Any]:
        whole = len(order) // network.batch_size * network.batch_size
        batches = order[:whole].reshape(-1, network.batch_size)
        state, losses = jax.lax.scan(lambda s, batch: step(s, batch, x, y), state, batches)
        if whole < len(order):
            state, _ = step(state, order[whole:], x, y)
        return state, losses.mean()

    return epoch


class Training:
    """Epochs of the scanned step."""

    def __init__(self, workload: Workload, bfloat16: bool = False) -> None:
        self.workload = workload
        x, y = training_set(workload.samples, np.float32)
        self.x, self.y = jnp.asarray(x), jnp.asarray(y, jnp.int32)
        parameters, statistics = _initial(workload)
        self.state = (parameters, jax.tree.map(jnp.zeros_like, parameters), statistics)
        self.epoch = _epoch_function(workload, _rounded_product if bfloat16 else jnp.matmul)

    def run(self, seed: int) -> None:
        for order in orders(len(self.x), seed, self.workload.repeats):
            # A copy, since the array is shuffled again while the device may still read it.
            shuffled = jnp.array(order, jnp.int32)
            self.state, value = self.epoch(self.state, self.x, self.y, shuffled)
        value.block_until_ready()

    def figure(self) -> float:
        parameters, _, statistics = self.state
        return loss(
            self.workload,
            [
                Parameters(
                    layer["w"], layer["b"],
                    (layer["gamma"], layer["beta"], running["mean"], running["var"])
                    if running else None,
                )
                for layer, running in zip(parameters, statistics, strict=True)
            ],
        )  # fmt: skip


class Inference:
    """A jitted forward pass and argmax."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        x, _ = training_set(workload.rows, np.float32)
        self.x = jnp.asarray(x)
        parameters, statistics = _initial(workload)
        activation = _ACTIVATIONS[workload.network.activation]

        @jax.jit
        def predict(parameters: Any, x: Any) -> Any:
            return _forward(parameters, statistics, x, activation)[0].argmax(axis=1)

        self.predict = functools.partial(predict, parameters)

    def run(self, seed: int) -> None:
        for _ in range(self.workload.repeats):
            self.predict(self.x).block_until_ready()

    def figure(self) -> float:
        return wrong_share(self.predict, self.workload.rows, np.float32)


JOBS = {"train": Training, "inference": Inference}
