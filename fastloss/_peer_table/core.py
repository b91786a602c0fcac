"""The losses that are measured most: what NumPy code for them looks like at its best."""

from typing import Any

import numpy as np

from fastloss._peer_table.record import Array, Peers

# NumPy, as somebody who knows it would write the losses: no temporary of full size that could be
# avoided, the maximum subtracted, one division per row instead of one per element.


def _numpy_softmax_cross_entropy(
    logits: Array, labels: Array, out: Array, gradient: bool
) -> tuple[Any, Array]:
    rows = np.arange(len(labels))
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    own = out[rows, labels]
    np.exp(out, out=out)
    total = out.sum(axis=1)
    value = np.mean(np.log(total) - own)
    if gradient:
        share = out.dtype.type(1 / len(labels))
        out *= (share / total)[:, None]
        out[rows, labels] -= share
    return value, out


def _numpy_dense_softmax_cross_entropy(
    logits: Array, target: Array, out: Array, gradient: bool
) -> tuple[Any, Array]:
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    own = np.einsum("ij,ij->i", target, out)
    np.exp(out, out=out)
    total = out.sum(axis=1)
    value = np.mean(np.log(total) - own)
    if gradient:
        out /= total[:, None]
        out -= target
        out *= out.dtype.type(1 / len(target))
    return value, out


def _numpy_sigmoid_cross_entropy(
    logits: Array, target: Array, out: Array, gradient: bool
) -> tuple[Any, Array]:
    np.abs(logits, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    losses = np.log1p(out)
    losses += np.maximum(logits, 0)
    value = np.mean(losses) - np.vdot(logits, target) / logits.size
    if gradient:
        numerator = np.where(logits >= 0, out.dtype.type(1), out)
        out += 1
        np.divide(numerator, out, out=out)
        out -= target
        out *= out.dtype.type(1 / out.size)
    return value, out


def _numpy_mse(pred: Array, target: Array, out: Array, gradient: bool) -> tuple[Any, Array]:
    np.subtract(pred, target, out=out)
    value = np.vdot(out, out) / out.size
    if gradient:
        out *= out.dtype.type(2 / out.size)
    return value, out


# The truth in longdouble, where the textbook formula subtracts nearly equal numbers.


def _exact_softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    rows = np.arange(len(labels))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    own = powers[rows, labels]
    powers[rows, labels] = 0
    others = powers.sum(axis=1)
    gradient = powers / (own + others)[:, None]
    gradient[rows, labels] = -others / (own + others)
    return np.log1p(others / own), gradient


def _exact_sigmoid_cross_entropy(logits: Array, target: Array) -> tuple[Array, Array]:
    decay = np.exp(-np.abs(logits))
    likely, unlikely = 1 / (1 + decay), decay / (1 + decay)
    positive = np.where(logits >= 0, likely, unlikely)
    negative = np.where(logits >= 0, unlikely, likely)
    losses = np.log1p(decay) + np.where(
        target == 1, np.maximum(-logits, 0), np.maximum(logits, 0) - target * logits
    )
    return losses, (1 - target) * positive - target * negative


PEERS: dict[str, Peers] = {
    "softmax_cross_entropy": Peers(
        numpy=_numpy_softmax_cross_entropy,
        torch=lambda functional, x, y: functional.cross_entropy(x, y),
        optax=lambda optax, x, y: optax.softmax_cross_entropy_with_integer_labels(x, y).mean(),
        sklearn="HalfMultinomialLoss",
        exact=_exact_softmax_cross_entropy,
    ),
    "softmax_cross_entropy, dense": Peers(
        numpy=_numpy_dense_softmax_cross_entropy,
        torch=lambda functional, x, t: functional.cross_entropy(x, t),
        optax=lambda optax, x, t: optax.softmax_cross_entropy(x, t).mean(),
    ),
    "sigmoid_cross_entropy": Peers(
        numpy=_numpy_sigmoid_cross_entropy,
        torch=lambda functional, x, t: functional.binary_cross_entropy_with_logits(x, t),
        optax=lambda optax, x, t: optax.sigmoid_binary_cross_entropy(x, t).mean(),
        sklearn="HalfBinomialLoss",
        exact=_exact_sigmoid_cross_entropy,
    ),
    "mse": Peers(
        numpy=_numpy_mse,
        torch=lambda functional, p, t: functional.mse_loss(p, t),
        optax=lambda optax, p, t: optax.squared_error(p, t).mean(),
        sklearn="HalfSquaredError",
        sklearn_scale=2.0,
        limit="add",
    ),
}
