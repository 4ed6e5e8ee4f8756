"""The tasks of the search benchmark: trainings of a small CNN, a surface shaped like their loss, and two functions.

All are minimised. The CNN's trainings run side by side (one product of matrices for all): many hundreds are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

UPSTREAM_RANGES = {
    "lr": [0.000005, 0.001],
    "weight_decay": [0.00001, 0.9],
    "momentum": [0.1, 0.9],
    "step_size": [1, 5],
    "gamma": [0.01, 0.5],
}
"""``sherpa_parameters`` of upstream's example settings, whose searches have 16 trials of which 5 are initial."""
EPOCHS, BATCH, CHANNELS = 10, 16, (8, 16)

Point = dict[str, float]
Loss = Callable[[Sequence[tuple[int, Point]]], list[float]]
"""Values of (seed, parameters) pairs; the seed is the network's and the order's, where the task has dice."""


@dataclass(frozen=True)
class Task:
    """What is searched: ranges by name, which of them by their exponent, and the loss."""

    name: str
    ranges: dict[str, list[float]]
    loss: Loss
    log: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


def tasks() -> list[Task]:
    """Digits, surface, Branin and Hartmann-6."""
    log, whole = ("lr", "weight_decay"), ("step_size",)
    unit = {f"x{i}": [0.0, 1.0] for i in range(1, 7)}
    return [
        Task("digits", UPSTREAM_RANGES, Digits(), log, whole),
        Task("surface", UPSTREAM_RANGES, _each(surface), log, whole),
        Task("branin", {"x1": [-5.0, 10.0], "x2": [0.0, 15.0]}, _each(branin)),
        Task("hartmann6", unit, _each(hartmann6)),
    ]


def _each(function: Callable[[Point], float]) -> Loss:
    return lambda pairs: [function(point) for _, point in pairs]


def surface(p: Point) -> float:
    """A loss by the total length of all steps: flat where they are too short, a valley, a wall where they are too long.

    Weight decay has a mild optimum; a late and strong cut of the rate helps a little.
    """
    cuts = [p["gamma"] ** (epoch // p["step_size"]) for epoch in range(EPOCHS)]
    reach = math.log10(p["lr"] / (1 - p["momentum"]) * sum(cuts))
    learnt = 1 / (1 + math.exp(-3 * (reach + 3.2)))
    wall = math.log1p(math.exp(6 * (reach + 1.9)))
    decay = 0.04 * (math.log10(p["weight_decay"]) + 3.3) ** 2
    return 2.3 - 2.0 * learnt + wall + decay + 0.1 * cuts[-1]


def branin(p: Point) -> float:
    """Branin-Hoo on its usual square; the least value is 0.397887."""
    x, y = p["x1"], p["x2"]
    fold = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return fold**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


HARTMANN_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(p: Point) -> float:
    """Hartmann's function of six inputs from 0 to 1; the least value is -3.32237."""
    x = np.array([p[f"x{i}"] for i in range(1, 7)])
    return -float(HARTMANN_WEIGHTS @ np.exp(-(HARTMANN_A * (x - HARTMANN_P) ** 2).sum(axis=1)))


class Digits:
    """Cross-entropy on a quarter of scikit-learn's digits of a two-layer CNN after ten epochs of SGD with StepLR."""

    def __init__(self) -> None:
        pictures, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        images = torch.tensor(pictures[order].reshape(-1, 1, 8, 8), dtype=torch.float32)
        images = (images - images.mean()) / images.std()
        patches = F.unfold(images, 3, stride=2, padding=1).transpose(1, 2)  # (images, 16 places, 9)
        targets = torch.tensor(labels[order], dtype=torch.long)
        cut = len(labels) // 4
        self.val, self.train = (patches[:cut], targets[:cut]), (patches[cut:], targets[cut:])
        self.known: dict[tuple[int, tuple[float, ...]], float] = {}

    def __call__(self, pairs: Sequence[tuple[int, Point]]) -> list[float]:
        keys = [(seed, tuple(point[name] for name in UPSTREAM_RANGES)) for seed, point in pairs]
        new = list(dict.fromkeys(key for key in keys if key not in self.known))
        if new:
            self.known.update(zip(new, self._train(new), strict=True))
        return [self.known[key] for key in keys]

    def _train(self, keys: list[tuple[int, tuple[float, ...]]]) -> list[float]:
        """All of ``keys`` side by side: run r has its own weights, order and hyperparameters."""
        weights = [w.requires_grad_() for w in self._start([seed for seed, _ in keys])]
        speed = [torch.zeros_like(w) for w in weights]
        rate, decay, momentum, step, gamma = (
            torch.tensor(column) for column in zip(*(p for _, p in keys), strict=True)
        )
        images, targets = self.train
        dice = [torch.Generator().manual_seed(seed) for seed, _ in keys]
        for epoch in range(EPOCHS):
            now = rate * gamma ** torch.div(epoch, step, rounding_mode="floor")
            order = torch.stack([torch.randperm(len(targets), generator=one) for one in dice])
            for first in range(0, len(targets), BATCH):
                chosen = order[:, first : first + BATCH]
                loss = self._losses(weights, images[chosen], targets[chosen]).sum()
                for weight, moving, grad in zip(weights, speed, torch.autograd.grad(loss, weights), strict=True):
                    with torch.no_grad():
                        moving.mul_(_wide(momentum, weight)).add_(grad + _wide(decay, weight) * weight)
                        weight.sub_(_wide(now, weight) * moving)
        with torch.no_grad():
            pictures, labels = (part.expand(len(keys), *part.shape) for part in self.val)
            found = self._losses(weights, pictures, labels).double().tolist()
        return [min(value, 1e3) if math.isfinite(value) else 1e3 for value in found]

    def _start(self, seeds: list[int]) -> list[Tensor]:
        """Weights (runs, ...) of two convolutions and the last layer, He-normal by seed; biases are left out."""
        one, two = CHANNELS
        shapes = [(9, one), (4 * one, two), (4 * two, 10)]
        stacks: list[list[Tensor]] = [[], [], []]
        for seed in seeds:
            dice = torch.Generator().manual_seed(seed)
            for stack, shape in zip(stacks, shapes, strict=True):
                stack.append(torch.randn(shape, generator=dice) * (2 / shape[0]) ** 0.5)
        return [torch.stack(stack) for stack in stacks]

    def _losses(self, weights: list[Tensor], patches: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of each run; patches (runs, batch, 16, 9) of 3 x 3 pixels, targets (runs, batch).

        A convolution 3 x 3 of stride 2 is a product with the patches; the second, 2 x 2 of stride 2, needs no overlap.
        """
        runs, batch = targets.shape
        one, two = CHANNELS
        x = F.relu(torch.bmm(patches.reshape(runs, batch * 16, 9), weights[0]))
        x = x.view(runs, batch, 2, 2, 2, 2, one).transpose(3, 4).reshape(runs, batch * 4, 4 * one)
        x = F.relu(torch.bmm(x, weights[1])).view(runs, batch, 4 * two)
        scores = torch.bmm(x, weights[2])
        return F.cross_entropy(scores.flatten(0, 1), targets.reshape(-1), reduction="none").view(runs, batch).mean(1)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *([1] * (like.dim() - 1)))
