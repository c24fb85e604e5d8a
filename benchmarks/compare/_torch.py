"""PyTorch: eager, compiled by inductor, or in bfloat16, by autocast or with all there is in it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from . import _setups
from ._data import orders, training_set
from ._judge import Parameters, loss, wrong_share
from ._workloads import Workload

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

_ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def _network(workload: Workload, dtype: Any, seed: int = 0) -> nn.Sequential:
    """The layers with the workload's initial weights; batch norm as HW1P1 has it."""
    network = workload.network
    modules: list[nn.Module] = []
    for w in network.initial_weights(dtype, seed):
        linear = nn.Linear(*w.shape)
        linear.weight = nn.Parameter(torch.from_numpy(w.T.copy()))
        linear.bias = nn.Parameter(torch.zeros(w.shape[1], dtype=linear.weight.dtype))
        modules.append(linear)
        if w.shape[1] == network.sizes[-1]:
            break
        if network.batchnorm:
            modules.append(nn.BatchNorm1d(w.shape[1], eps=1e-8, momentum=0.1))
        modules.append(_ACTIVATIONS[network.activation]())
    return nn.Sequential(*modules)


def _optimizer(
    network: nn.Sequential, lr: float, momentum: float, name: str | None = None
) -> torch.optim.Optimizer:
    """Momentum on weights and biases, none on batch norm's scale and shift; or that of a name.

    Of bfloat16 parameters PyTorch 2.13's fused SGD loses the most (a toy network ended at a loss of
    0.70, and at 0.01 without): they are updated one operation at a time.
    """
    if name is not None:
        return getattr(torch.optim, name)(network.parameters(), lr=lr, fused=True)
    norms = [p for m in network if isinstance(m, nn.BatchNorm1d) for p in m.parameters()]
    others = [p for m in network if isinstance(m, nn.Linear) for p in m.parameters()]
    groups: list[dict[str, Any]] = [{"params": others, "momentum": momentum}]
    if norms:
        groups.append({"params": norms, "momentum": 0.0})
    fused = all(p.dtype != torch.bfloat16 for p in network.parameters())
    return torch.optim.SGD(groups, lr=lr, fused=fused)


def _parameters(network: nn.Sequential) -> list[Parameters]:
    found: list[Parameters] = []
    for module in network:
        if isinstance(module, nn.Linear):
            weight, bias = module.weight.detach().float(), module.bias.detach().float()
            found.append(Parameters(weight.T.numpy(), bias.numpy()))
        elif isinstance(module, nn.BatchNorm1d):
            values = module.weight, module.bias, module.running_mean, module.running_var
            norm = [value.detach().numpy() for value in values if value is not None]
            found[-1] = found[-1]._replace(batchnorm=norm)
    return found


def _compiled(function: Any) -> Any:
    """``torch.compile``, with what earlier workloads compiled forgotten.

    It would count against the limit beyond which a function runs uncompiled.
    """
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


class _Loop:
    """The training loop over tensors in memory."""

    def __init__(self, network: nn.Sequential, lr: float, momentum: float, compiled: bool,
                 bfloat16: bool) -> None:  # fmt: skip
        self.network = network
        self.optimizer = _optimizer(network, lr, momentum)
        self.bfloat16 = bfloat16
        self.loss = _compiled(self._loss) if compiled else self._loss

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return nn.functional.cross_entropy(self.network(x), y)

    def epoch(
        self, x: torch.Tensor, y: torch.Tensor, order: np.ndarray, batch_size: int,
        rates: Sequence[float] = (),
    ) -> float:  # fmt: skip
        """An epoch, or as many steps of it as there are ``rates``, if any."""
        total = torch.zeros(())
        batches = torch.from_numpy(order).split(batch_size)
        for number, batch in enumerate(batches[: len(rates) or None]):
            if rates:
                self.optimizer.param_groups[0]["lr"] = rates[number]
            loss = self.loss(x[batch], y[batch])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(batch)
        return float(total) / len(order)


class Training:
    """Batches by index from a tensor: no data loader, which would cost more than the step."""

    def __init__(
        self, workload: Workload, compiled: bool = False, bfloat16: bool = False, pure: bool = False
    ) -> None:
        self.workload = workload
        x, y = training_set(workload.samples, workload.dtype)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        network = _network(workload, x.dtype)
        if pure:
            self.x, network = self.x.bfloat16(), network.bfloat16()
        of = workload.network
        self.loop = _Loop(network, of.lr, of.momentum, compiled, bfloat16)
        if of.optimizer is not None:
            self.loop.optimizer = _optimizer(network, of.lr, of.momentum, of.optimizer)

    def run(self, seed: int) -> None:
        for order in orders(len(self.x), seed, self.workload.repeats):
            self.loop.epoch(self.x, self.y, order, self.workload.network.batch_size)

    def figure(self) -> float:
        return loss(self.workload, _parameters(self.loop.network))


class Inference:
    """The forward pass and argmax, without autograd."""

    def __init__(self, workload: Workload, compiled: bool = False, bfloat16: bool = False) -> None:
        self.workload = workload
        x, _ = training_set(workload.rows, workload.dtype)
        self.x = torch.from_numpy(x)
        self.network = _network(workload, x.dtype).eval()
        self.forward = _compiled(self.network) if compiled else self.network

    @torch.inference_mode()
    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x).argmax(dim=1)

    def run(self, seed: int) -> None:
        for _ in range(self.workload.repeats):
            self.predict(self.x)

    def figure(self) -> float:
        def predict(x: np.ndarray) -> np.ndarray:
            return self.predict(torch.from_numpy(x)).numpy()

        return wrong_share(predict, self.workload.rows, self.workload.dtype)


class Record:
    """The speedrun preset, from scratch each time."""

    def __init__(self, workload: Workload, compiled: bool = False, bfloat16: bool = False) -> None:
        self.workload = workload
        self.record = _setups.Record()
        self.rates = self.record.rates()
        self.trained: list[list[Parameters]] = []
        self.x, self.y = torch.from_numpy(self.record.x), torch.from_numpy(self.record.y)
        self.network = _network(workload, np.float32)
        preset = self.record.preset
        # Compiled once; a training from scratch then only resets weights and optimiser.
        self.loop = _Loop(self.network, preset.lr, preset.momentum, compiled, bfloat16)

    def _restart(self, seed: int) -> None:
        preset = self.record.preset
        fresh = _network(self.workload, np.float32, seed)
        self.network.load_state_dict(fresh.state_dict())
        self.loop.optimizer = _optimizer(self.network, preset.lr, preset.momentum)

    def run(self, seed: int) -> None:
        self._restart(seed)
        preset, done = self.record.preset, 0
        for order in orders(len(self.x), seed, preset.epochs):
            steps = math.ceil(len(order) / preset.batch_size)
            rates = self.rates[done : done + steps]
            self.loop.epoch(self.x, self.y, order, preset.batch_size, rates)
            done += len(rates)
        self.trained.append(_parameters(copy.deepcopy(self.network)))

    def figure(self) -> float:
        return self.record.mean_error(self.workload, self.trained)


JOBS = {"train": Training, "inference": Inference, "record": Record}
