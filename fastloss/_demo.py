"""The training behind ``fastloss demo``: a small NumPy network on handwritten digits."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloss.data import digits

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
LossFunction = Callable[[Floats, Labels, Floats], tuple[float, Floats]]
"""Takes logits, labels and a buffer for the gradient; returns the mean loss and the gradient."""

TRAINING_IMAGES = 1297
CLASSES = 10
MOMENTUM = 0.9
RESOLVED_LOSS = 0.01


@dataclass(frozen=True)
class Settings:
    """What a training depends on; equal settings give equal trainings."""

    epochs: int = 30
    batch_size: int = 32
    hidden: int = 64
    learning_rate: float = 0.05
    seed: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Split:
    """The digits, divided into a part to learn from and a part held out."""

    images: Floats
    labels: Labels
    held_out_images: Floats
    held_out_labels: Labels

    @classmethod
    def load(cls, dtype: str) -> "Split":
        """Shuffle and divide the digits, always the same way so that accuracies compare."""
        images, labels = digits()
        order = np.random.default_rng(0).permutation(len(labels))
        images, labels = images[order].astype(dtype), labels[order]
        return cls(
            images[:TRAINING_IMAGES],
            labels[:TRAINING_IMAGES],
            images[TRAINING_IMAGES:],
            labels[TRAINING_IMAGES:],
        )


class Network:
    """One hidden layer with tanh, trained by gradient descent with momentum.

    tanh because it is smooth: at the kink of ReLU a rounding error can switch a unit on or off, and
    two trainings that differ by rounding alone then part ways.
    """

    def __init__(self, inputs: int, hidden: int, rng: np.random.Generator, dtype: str) -> None:
        self.parameters: list[Floats] = [
            (rng.standard_normal((inputs, hidden)) * np.sqrt(1 / inputs)).astype(dtype),
            np.zeros(hidden, dtype),
            (rng.standard_normal((hidden, CLASSES)) * np.sqrt(1 / hidden)).astype(dtype),
            np.zeros(CLASSES, dtype),
        ]
        self._velocities = [np.zeros_like(parameter) for parameter in self.parameters]

    def logits(self, images: Floats) -> Floats:
        """Forward pass; remembers what the backward pass needs."""
        weights_1, bias_1, weights_2, bias_2 = self.parameters
        self._images = images
        self._hidden = np.tanh(images @ weights_1 + bias_1)
        return self._hidden @ weights_2 + bias_2

    def descend(self, logits_gradient: Floats, learning_rate: float) -> None:
        """Backward pass from the gradient the loss gave, and one step downhill."""
        hidden_gradient = (logits_gradient @ self.parameters[2].T) * (1 - self._hidden**2)
        gradients = (
            self._images.T @ hidden_gradient,
            hidden_gradient.sum(axis=0),
            self._hidden.T @ logits_gradient,
            logits_gradient.sum(axis=0),
        )
        for parameter, velocity, gradient in zip(
            self.parameters, self._velocities, gradients, strict=True
        ):
            velocity *= MOMENTUM
            velocity -= learning_rate * gradient
            parameter += velocity


@dataclass
class Training:
    """One network on its way through the epochs, and the record of it."""

    settings: Settings
    split: Split
    loss: LossFunction
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    loss_seconds: float = 0.0
    loss_calls: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.settings.seed)
        self._network = Network(
            self.split.images.shape[1], self.settings.hidden, self._rng, self.settings.dtype
        )
        rows = min(self.settings.batch_size, len(self.split.labels))
        self._gradient = np.empty((rows, CLASSES), self.settings.dtype)
        # An untimed call, so that compilation does not count as time spent in the loss.
        self.loss(np.zeros_like(self._gradient), self.split.labels[:rows], self._gradient)

    def epoch(self) -> None:
        """Go through all training images once, in a new order."""
        count = len(self.split.labels)
        order = self._rng.permutation(count)
        total = 0.0
        for start in range(0, count, self.settings.batch_size):
            batch = order[start : start + self.settings.batch_size]
            labels = self.split.labels[batch]
            logits = self._network.logits(self.split.images[batch])

            before = time.perf_counter()
            loss, gradient = self.loss(logits, labels, self._gradient[: len(batch)])
            self.loss_seconds += time.perf_counter() - before

            self.loss_calls += 1
            total += loss * len(batch)
            self._network.descend(gradient, self.settings.learning_rate)
        self.losses.append(total / count)
        predicted = self._network.logits(self.split.held_out_images).argmax(axis=1)
        self.accuracies.append(float(np.mean(predicted == self.split.held_out_labels)))


@dataclass
class Comparison:
    """The same training twice: with the compiled kernel and with the textbook formula in NumPy."""

    settings: Settings

    def __post_init__(self) -> None:
        import fastloss as fl
        from fastloss._peer_table import PEERS

        numpy_code = PEERS["softmax_cross_entropy"].numpy
        assert numpy_code is not None

        def kernel(logits: Floats, labels: Labels, buffer: Floats) -> tuple[float, Floats]:
            return fl.softmax_cross_entropy.value_and_grad(logits, labels, grad_out=buffer)

        def textbook(logits: Floats, labels: Labels, buffer: Floats) -> tuple[float, Floats]:
            loss, gradient = numpy_code(logits, labels, buffer, True)
            return float(loss), gradient

        split = Split.load(self.settings.dtype)
        self.kernel = Training(self.settings, split, kernel)
        self.textbook = Training(self.settings, split, textbook)

    def run(self) -> Iterator[int]:
        """Train both, epoch by epoch in turn so that both meet the same state of the machine.

        Yields
        ------
        int
            The number of epochs done.
        """
        # A learning rate that is too large overflows; the curves then show it, not a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            for done in range(1, self.settings.epochs + 1):
                self.kernel.epoch()
                self.textbook.epoch()
                yield done

    @property
    def finite(self) -> bool:
        """Whether no loss of either training is NaN or infinite."""
        return bool(np.isfinite([self.kernel.losses, self.textbook.losses]).all())

    @property
    def difference(self) -> float:
        """The largest relative difference between the two loss curves.

        Losses below `RESOLVED_LOSS` count as that: the textbook formula takes the logarithm of a
        sum near 1 there, and has no relative accuracy left to compare with.
        """
        kernel, textbook = np.array(self.kernel.losses), np.array(self.textbook.losses)
        return float(np.max(np.abs(kernel - textbook) / np.maximum(textbook, RESOLVED_LOSS)))


def draw(comparison: Comparison, path: Path) -> None:
    """Draw loss and accuracy of both trainings into a file.

    Parameters
    ----------
    comparison : Comparison
        Trainings that were run.
    path : Path
        The file; its suffix says the format.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

    # Blue and orange of the Okabe-Ito palette: told apart with every kind of colour vision.
    blue, orange = "#0072B2", "#E69F00"
    kernel, textbook = comparison.kernel, comparison.textbook
    epochs = range(1, comparison.settings.epochs + 1)
    marker = "o" if len(epochs) == 1 else None  # a line through one point is invisible

    figure = Figure(figsize=(9, 3.8), dpi=160, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, ours, theirs in (
        (loss_axes, kernel.losses, textbook.losses),
        (accuracy_axes, kernel.accuracies, textbook.accuracies),
    ):
        # The wide line shows on both sides of the dashed one: where they agree, both are seen.
        axes.plot(epochs, ours, color=orange, linewidth=4, marker=marker, label="fastloss")
        axes.plot(
            epochs, theirs, color=blue, linewidth=1.5, dashes=(4, 3), marker=marker, label="NumPy"
        )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("0.4")
        axes.tick_params(which="both", color="0.4")
        axes.grid(axis="y", color="0.92")
    loss_axes.set_title("Training loss", loc="left", weight="bold")
    loss_axes.set_yscale("log")
    loss_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss_axes.yaxis.set_major_formatter("{x:g}")
    loss_axes.yaxis.set_minor_formatter("")
    loss_axes.set_ylabel("mean softmax cross-entropy (nats)")
    loss_axes.legend(frameon=False)
    accuracy_axes.set_title("Accuracy on held-out digits", loc="left", weight="bold")
    accuracy_axes.set_ylabel("recognised images (%)")
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    figure.savefig(path)
