"""Distances of two rows and their gradients, for the losses of embeddings."""

import numpy as np
from numba import njit

from fastloss._jit import LOOPS
from fastloss._llvm import own_function


@njit(**LOOPS)
def distance(x, y, p):
    """Return ``|x - y|_p`` in float64, without overflow or underflow of the powers."""
    own_function()
    largest = 0.0
    for d in range(x.size):
        largest = max(largest, abs(np.float64(x[d]) - np.float64(y[d])))
    if largest == 0.0 or largest == np.inf:
        return largest
    total = 0.0
    if p == 2:
        for d in range(x.size):
            total += ((np.float64(x[d]) - np.float64(y[d])) / largest) ** 2
        return largest * np.sqrt(total)
    if p == 1:
        for d in range(x.size):
            total += abs(np.float64(x[d]) - np.float64(y[d]))
        return total
    for d in range(x.size):
        total += (abs(np.float64(x[d]) - np.float64(y[d])) / largest) ** np.float64(p)
    return largest * total ** (1.0 / np.float64(p))


@njit(**LOOPS)
def add_direction(x, y, p, norm, sign, x_grad, y_grad):
    """Add ``sign`` times the gradient of ``norm = |x - y|_p`` by x to x_grad, by y to y_grad."""
    own_function()
    T = type(x[0])
    if norm == 0.0:
        return
    for d in range(x.size):
        r = np.float64(x[d]) - np.float64(y[d])
        if p == 2:
            slope = r / norm
        elif p == 1:
            slope = np.sign(r)
        else:
            slope = np.sign(r) * (abs(r) / norm) ** (np.float64(p) - 1.0)
        x_grad[d] += sign * T(slope)
        y_grad[d] -= sign * T(slope)
