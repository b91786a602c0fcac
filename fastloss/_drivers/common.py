"""What the loop templates of the softmax family share: the story, the sizes, the small helpers.

With m the largest logit of a row, ``e_c = exp(x_c - m)`` and a_c the target mass of class c, every
loss of the family is a function of four numbers, ``link(rest, own, gap, mass)``:

    rest = sum of e_c but for one class k      gap  = sum of a_c (m - x_c)
    own  = e_k                                 mass = sum of a_c

and returns ``(loss, slope, excess)`` such that, with ``p = e / (rest + own)``, the gradient is
``slope (mass p - a) + excess p``. Leaving class k out of the sum is what keeps full relative
accuracy at any confidence: the gradient at k, ``mass p_k - a_k``, is computed as
``(mass_rest own - mass_own rest) / (rest + own)`` where nothing cancels. In *hard* rows (integer
labels) k is the label; in *soft* rows (dense targets, label smoothing) k is the class with the
largest logit, the only one whose p can come close to 1.

Two layouts. A *row* has its classes side by side, and vectors run along the classes. In a *tile*
neighbouring rows lie side by side, and vectors run across LANES rows: class-first arrays are such
tiles as they are, and rows of few classes are transposed into one in the L1 cache.

The engine clones the templates in `rows`, `tiles` and `softmax` and binds the names that are None
there. An argument that is None is pruned when a clone is compiled.
"""

import numpy as np
from numba import njit

from fastloss._jit import INLINED, MATHEMATICS
from fastloss._llvm import part_of
from fastloss._math import exp_nonpositive, maximum

TILE_CLASSES = 32
"""Rows of at most so many classes are transposed into tiles."""

LANES = 64
"""Rows of a tile."""

IGNORED = -1
OUTSIDE = -2

inlined = njit(**INLINED)


@inlined
def class_of_label(label, ignore_index, classes):
    """Return the label as an index, or IGNORED, or OUTSIDE (whatever its integer type)."""
    index = np.int64(label)
    ignored = (index == ignore_index) & ((label < 0) == (index < 0))  # no uint64 passes for -100
    inside = np.uint64(index) < np.uint64(classes)
    return np.int64(IGNORED) if ignored else (index if inside else np.int64(OUTSIDE))


@inlined
def weight_of_row(sample_weight, class_weight, label, row):
    """Return the weight of a row in float64: that of its sample times that of its class."""
    weight = 1.0
    if sample_weight is not None:
        weight *= np.float64(sample_weight[row])
    if class_weight is not None:
        weight *= np.float64(class_weight[np.uintp(label)])
    return weight


@inlined
def largest(x):
    """Return the largest entry, NaN if there is one."""
    top = x[0]
    for c in range(x.size):
        top = maximum(top, x[c])
    return top


@inlined
def mass_of_class(dense, hit, class_weight, smoothing, T):
    """Return the target mass ``w_c ((1 - smoothing) t_c + smoothing / C)`` of one class.

    Without a dense target, t is the one-hot row whose 1 is where `hit`. `smoothing` is the pair
    ``(1 - smoothing, smoothing / C)``.
    """
    mass = (T(1) if hit else T(0)) if dense is None else T(dense)
    if smoothing is not None:
        mass = smoothing[0] * mass + smoothing[1]
    if class_weight is not None:
        mass *= T(class_weight)
    return mass


@inlined
def clip_to(p, clip):
    """Return p clipped to ``[clip[0], clip[1]]``; NaN stays."""
    return min(max(p, clip[0]), clip[1])


@njit(**MATHEMATICS)
def beyond_one_top(rest, tops):
    """Return ``S - 1``: the rest and every top but one, added without forming their sum first."""
    return rest + (tops - type(rest)(1))


@njit(**MATHEMATICS)
def add_to(whole, lost, part, i):
    """Add part[i] to whole[i] and what that rounds off to lost[i] (Knuth's two-sum)."""
    i = np.uintp(i)  # LLVM takes a signed index for one that may be negative, and gathers
    total = whole[i] + part[i]
    added = total - whole[i]
    lost[i] += (whole[i] - (total - added)) + (part[i] - added)
    whole[i] = total


@njit(**MATHEMATICS)
def settle(whole, lost, i):
    """Put back into whole[i] what rounding took; an infinite sum, whose loss is NaN, stays."""
    i = np.uintp(i)
    corrected = whole[i] + lost[i]
    whole[i] = corrected if corrected == corrected else whole[i]


@inlined
def live_weight(labels, ignore_index, classes, sample_weight, class_weight, row):
    """Return (label, weight) of a row; the weight is 0 where the row does not count.

    Rows without labels (dense targets) have label 0. A label outside the classes is not counted
    either: the driver has refused it before, and memory stays safe if it changed since.
    """
    label = np.int64(0)
    if labels is not None:
        label = class_of_label(labels[row], ignore_index, classes)
    if label < 0:
        return label, 0.0
    return label, weight_of_row(sample_weight, class_weight, label, row)


@inlined
def skip_row(g, h, losses, row, accumulate):
    """Leave zeros where a row that does not count, and is not even looked at, has its results."""
    if losses is not None:
        losses[row] = 0
    if g is not None and accumulate is None:
        g[:] = 0
    if h is not None:
        h[:] = 0


@inlined
def gradient_scale(share, weight, upstream, row):
    """Return the factor between a row's own gradient and that of the reduced value."""
    scale = share * weight
    if upstream is not None:
        scale *= np.float64(upstream[row])
    return scale


@inlined
def store_for_powers(g, accumulate, scratch, first, size):
    """Return where e goes: into the gradient's own memory if that is free, else into scratch."""
    if g is None:
        return scratch[:size]
    if accumulate is not None:
        return scratch[:size]
    return part_of(g, first, size)


@inlined
def power(g, x, c, top, accumulate):
    """Return e, as stored or, where the gradient's memory was not free, computed again."""
    if accumulate is None:
        return g[c]
    return exp_nonpositive(x[c] - top)


@inlined
def again(g, x, c, top, accumulate):
    """Return e, as stored if there is a gradient, else computed again."""
    if g is None:
        return exp_nonpositive(x[c] - top)
    return power(g, x, c, top, accumulate)


@inlined
def keep_power(g, c, e, accumulate):
    """Store e where the gradient will be, if that memory is free."""
    if g is not None and accumulate is None:
        g[c] = e


@inlined
def put(g, c, change, accumulate):
    """Write or add an entry of the gradient."""
    if accumulate is None:
        g[c] = change
    else:
        g[c] += change
