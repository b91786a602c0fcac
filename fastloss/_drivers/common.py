"""What the loop templates of the softmax family share: the story, the sizes, the small helpers.

With m the largest logit of a row, ``e_c = exp(x_c - m)`` and a_c the target mass of class c, every
loss of the family is a function of four numbers, ``link(rest, own, gap, mass)``:

    rest = sum of e_c but for one class k      gap  = sum of a_c (m - x_c)
    own  = e_k                                 mass = sum of a_c

and returns ``(loss, slope, bend)`` such that, with ``p = e / (rest + own)``, the gradient is
``slope (mass p - a)``. Leaving class k out of the sum is what keeps full relative accuracy at any
confidence: the gradient at k, ``mass p_k - a_k``, is computed as
``(mass_rest own - mass_own rest) / (rest + own)`` where nothing cancels. In *hard* rows (integer
labels) k is the label; in *soft* rows (dense targets, label smoothing, mixed labels) k is the class
with the largest logit, the only one whose p can come close to 1.

The cross-entropy has slope 1. A *curved* loss is another function L of the label's probability,
such as the focal loss: ``slope = -p L'(p)`` depends on p, and ``bend = -p dslope/dp`` is what its
Hessian needs, ``slope p (1 - p) + bend (p - [c = k])²``. With a soft target its value is
``sum of a_c L(p_c)``, so the link is asked once per class (for a mass of 1), and the gradient is
that of a target of masses ``b_c = a_c slope_c``: ``p sum(b) - b``.

Two options are the templates' own. Logits are divided by the `temperature`, after the maximum has
been taken off. `z_loss` adds ``z lse²`` to the loss of a row (lse is the logarithm of the sum of
exp(x)) and ``2 z lse p`` to its gradient, not multiplied by the weight of a class.

Two layouts. A *row* has its classes side by side, and vectors run along the classes. In a *tile*
neighbouring rows lie side by side, and vectors run across LANES rows: class-first arrays are such
tiles as they are, and rows of few classes are transposed into one in the L1 cache.

The engine clones the templates in `rows`, `tiles` and `softmax` and binds the names that are None
there. An argument that is None is pruned when a clone is compiled.
"""

from collections import namedtuple

import numpy as np
from numba import njit

from fastloss._floats import at_least, at_most
from fastloss._jit import INLINED, MATHEMATICS, ROUNDED
from fastloss._math import exp_nonpositive, log
from fastloss._vectors import choose, number, one_like

TILE_CLASSES = 32
"""The most classes of rows that are transposed into tiles."""

CACHED = 2**22
"""Logits of more bytes, with their gradient, are more than the caches of most CPUs hold."""

TILED_BYTES, STREAMED_BYTES = TILE_CLASSES * 4, 80
"""Rows of at most so many bytes are sooner done as tiles, in a cache and out of it.

Vectors along the classes are filled better by longer rows, and memory is read faster line by line.
"""

LANES = 64
"""Rows of a tile."""

ROW_ENTRIES = 8
"""What a row takes beside its entries, in the time of as many."""

PART = 256
"""Weights whose sum, in vectors, is added to that of others without loss.

Equal numbers, such as weights often are, all round the same way: a sum of 100,000 of them by 8
lanes was 250 units in the last place wrong.
"""

IGNORED = -1
OUTSIDE = -2

inlined = njit(**INLINED)


def most_tiled(itemsize, size):
    """Return the most classes for which the rows of a batch go as tiles."""
    return (TILED_BYTES if size * itemsize <= CACHED else STREAMED_BYTES) // itemsize


def rough_time(nanoseconds, entries, rows, itemsize):
    """Return what one thread takes, given a loss's rough time per float32 entry of a long row.

    Elementwise losses have no rows.
    """
    return nanoseconds * (entries + ROW_ENTRIES * rows) * itemsize / 4


def arguments_of(template):
    """Return the arguments of a template, by name, as a type of tuple; what is left out is None."""
    code = template.__code__
    names = code.co_varnames[: code.co_argcount]
    return namedtuple(f"{template.__name__}_arguments", names, defaults=[None] * len(names))


@inlined
def fits(shape, limit, fewest, most):
    """Whether a way in for small batches is for one of a shape: it has rows, but not too many.

    Its entries, and those that its rows count for, are below the `limit`.
    """
    rows, classes = shape
    return 0 < rows * (classes + ROW_ENTRIES) < limit and fewest <= classes <= most


@njit(**ROUNDED)
def weighed(loss, weight):
    """Return the product in float64: a mean of extreme weights need not be extreme itself."""
    return np.float64(weight) * np.float64(loss)


@inlined
def place_of_row(row, classes, inner):
    """Return where class 0 of a row lies in flat arrays of shape (…, classes, inner)."""
    if inner == 1:  # the usual case, without two divisions
        return row * classes
    return row // inner * classes * inner + row % inner


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
def weight_of_mix(class_weight, label, other, mix):
    """Return the class weight of mixed labels in float64."""
    if class_weight is None:
        return 1.0
    one = np.float64(mix[0]) * np.float64(class_weight[np.uintp(label)])
    return one + np.float64(mix[1]) * np.float64(class_weight[np.uintp(other)])


@njit(**MATHEMATICS)
def quotient(x, y):
    """Return x / y; the flags of loops would let LLVM multiply by a rounded inverse."""
    return x / y


@inlined
def per_temperature(x, temperature):
    """Return x divided by the temperature, if there is one."""
    if temperature is None:
        return x
    return quotient(x, type(x)(temperature))


@inlined
def apart(x, y, temperature):
    """Return ``(x - y) / temperature``."""
    if temperature is None:
        return x - y
    return quotient(x - y, temperature)


@inlined
def log_sum_exp(top, total, temperature):
    """Return the logarithm of the sum of exp(x), where `total` is that of exp(x - top)."""
    return per_temperature(top, temperature) + log(total)


@inlined
def mass_of_class(dense, hit, other_hit, mix, class_weight, smoothing, T):
    """Return the target mass ``w_c ((1 - smoothing) t_c + smoothing / C)`` of one class.

    Without a dense target, t is the one-hot row whose 1 is where `hit`, or, of mixed labels, that
    row times mix[0] plus the one of `other_hit` times mix[1]. `smoothing` is the pair
    ``(1 - smoothing, smoothing / C)``.
    """
    mass = choose(hit, T(1), T(0)) if dense is None else number(dense, T)
    if mix is not None:
        mass = choose(hit, mix[0], T(0)) + choose(other_hit, mix[1], T(0))
    if smoothing is not None:
        mass = smoothing[0] * mass + smoothing[1]
    if class_weight is not None:
        mass = mass * number(class_weight, T)
    return mass


@inlined
def clip_to(p, clip):
    """Return p clipped to ``[clip[0], clip[1]]``; NaN stays."""
    return at_most(at_least(p, clip[0]), clip[1])


@njit(**MATHEMATICS)
def beyond_one_top(rest, tops):
    """Return ``S - 1``: the rest and every top but one, added without forming their sum first."""
    return rest + (tops - one_like(rest))


@njit(**MATHEMATICS)
def two_sum(whole, lost, part):
    """Return ``whole + part`` and `lost` plus what this rounds off (Knuth's two-sum)."""
    total = whole + part
    added = total - whole
    return total, lost + ((whole - (total - added)) + (part - added))


@njit(**MATHEMATICS)
def settled(whole, lost):
    """Return a sum with what rounding took put back; an infinite one, whose loss is NaN, stays."""
    corrected = whole + lost
    return corrected if corrected == corrected else whole


@inlined
def settle(whole, lost, i):
    """Put back into whole[i] what rounding took."""
    i = np.uintp(i)
    whole[i] = settled(whole[i], lost[i])


@njit(**MATHEMATICS)
def in_order(numbers):
    """Return the sum from first to last: without `reassoc`, every driver adds in the same order."""
    whole, lost = 0.0, 0.0
    for i in range(numbers.size):
        whole, lost = two_sum(whole, lost, numbers[i])
    return settled(whole, lost)


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
def z_of_label(z_loss, class_weight, label, T):
    """Return z divided by the class weight, by which all of the row is multiplied later."""
    if class_weight is None:
        return T(z_loss)
    return T(z_loss) / T(class_weight[np.uintp(max(label, 0))])


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
def gradient_scale(share, weight, upstream, row, temperature):
    """Return the factor between a row's gradient by x / temperature and that of the result by x."""
    scale = share * weight
    if upstream is not None:
        scale *= np.float64(upstream[row])
    if temperature is not None:
        scale = quotient(scale, np.float64(temperature))
    return scale


@inlined
def power(g, x, c, top, accumulate, temperature):
    """Return e, as stored or, where the gradient's memory was not free, computed again."""
    if accumulate is None:
        return g[c]
    return exp_nonpositive(apart(x[c], top, temperature))


@inlined
def again(g, x, c, top, accumulate, temperature):
    """Return e, as stored if there is a gradient, else computed again."""
    if g is None:
        return exp_nonpositive(apart(x[c], top, temperature))
    return power(g, x, c, top, accumulate, temperature)


@inlined
def put(g, c, change, accumulate):
    """Write or add an entry of the gradient."""
    if accumulate is None:
        g[c] = change
    else:
        g[c] += change
