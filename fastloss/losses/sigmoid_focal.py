"""Focal loss of two classes, on logits."""

from dataclasses import replace

import numpy as np

from fastloss._families import elementwise
from fastloss._floats import fused
from fastloss._math import exp_in_parts, exp_nonpositive, log, log1p_unit
from fastloss._options import Option, nonnegative, smoothing


@elementwise(
    arguments=("logits", "target"),
    target="probability",
    options={
        "alpha": Option(None, "a number in [0, 1], or None", lambda x: 0 <= x <= 1, 0.25),
        "gamma": replace(nonnegative(2.0), neutral=True, shapes_formula=True),
        "label_smoothing": smoothing(),
    },
    ulp_bound=6,
    nanoseconds=3.0,
    peers={
        "torchvision": "sigmoid_focal_loss",
        "Keras": "BinaryFocalCrossentropy(from_logits=True)",
        "optax": "sigmoid_focal_loss",
    },
)
def sigmoid_focal(logit, target, alpha, gamma, label_smoothing):
    """Focal loss of logits, ``alpha_t (1 - p_t)**gamma`` times the binary cross-entropy.

    Parameters
    ----------
    logits : array_like, float32 or float64
        Logits x, of any shape; the probability is ``p = 1 / (1 + exp(-x))``.
    target : array_like
        Probabilities t in [0, 1] or binary labels, of the shape of `logits`; its dtype, or bool or
        integer.
    alpha : float, optional
        In [0, 1]: the losses are weighted by ``alpha_t = alpha t + (1 - alpha) (1 - t)``. None, the
        default, weights nothing.
    gamma : float, default 2.0
        At least 0: how much well classified elements count less; 0 is the cross-entropy.
    label_smoothing : float, default 0.0
        Replaces t by ``(1 - label_smoothing) t + label_smoothing / 2``; in [0, 1].

    Notes
    -----
    With ``p_t = p t + (1 - p) (1 - t)``, for soft labels too. Powers other than the square, which
    is the fastest, are taken in log space: the loss is finite, and its gradient has no pole, for
    gamma below 1 as well. For binary labels and gamma up to 2 the loss is within 4 ulp and every
    gradient entry within 6, at any logit down to the smallest normal number; beyond, they err by up
    to 2 ulp more for each unit of gamma, and for soft labels by 3, in the gradient of its larger
    term.
    torchvision weights by alpha = 0.25 unless told otherwise, and takes a negative one for None.
    Keras weights by alpha only if asked to, by the rounded labels.

    References
    ----------
    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár, "Focal loss for dense object detection",
    ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.sigmoid_focal(np.array([0.0, 20.0]), np.array([1.0, 1.0]), reduction="none")
    array([1.73286795e-01, 8.75651072e-27])
    """
    # By the sign of x, w is the target's share that it speaks against, v = 1 - w the rest. With
    # d = exp(-|x|), m = w + v d and L = 1 / (1 + d), nothing below cancels for binary labels:
    #   cross-entropy  C = w |x| + log1p(d),  its slope  ±G = ±L (w - v d)
    #   1 - p_t        u = L m,               its slope  ±u (w - v) R,  R = p (1 - p) / u = L d / m
    #   loss           f = u**gamma C,        its slope  ±u**gamma (gamma (w - v) R C + G)
    T = type(logit)
    other = T(1) - target
    if label_smoothing is not None:  # of both parts by itself: 1 - target would lose digits
        target = (T(1) - label_smoothing) * target + T(0.5) * label_smoothing
        other = (T(1) - label_smoothing) * other + T(0.5) * label_smoothing
    size = abs(logit)
    d, d_rest = exp_in_parts(-size)
    rest = log1p_unit(d)
    w = other if logit >= T(0) else target
    v = target if logit >= T(0) else other
    m = w + v * d

    # L and u to twice the precision, from the remainders of their divisions by s = 1 + d.
    s = T(1) + d
    s_rest = (d - (s - T(1))) + d_rest
    likely = T(1) / s
    likely += likely * (fused(-likely, s, T(1)) - likely * s_rest)
    u = likely * m
    u_rest = likely * ((fused(-u, s, m) + v * d_rest) - u * s_rest)
    m = T(1) if m == T(0) else m  # the loss is below all numbers, whatever m is

    # u**2 is u * u, what its rounding lost, and 2 u u_rest. Any other u**gamma is
    # exp(-(gamma depth + gamma rest)) with depth = -log(m). That exponent may be large, and its
    # rounding error that of the power: the factors are split so that the product of their upper
    # halves is exact, and what the last sum loses is given back.
    if gamma is None:
        times, power = T(2), u * u
        power += fused(u, u, -power) + T(2) * (u * u_rest)
    else:
        times = gamma
        depth = min(size, T(1024)) if w == T(0) else -log(m)
        single = T(1) + T(1e-9) == T(1)
        shift = T(1.5 * 2.0**19) if single else T(1.5 * 2.0**36)
        upper = (depth + shift) - shift
        shift = T(1.5 * 2.0**15) if single else T(1.5 * 2.0**30)
        gamma_upper = (gamma + shift) - shift
        coarse = gamma_upper * upper
        fine = gamma * ((depth - upper) + rest) + (gamma - gamma_upper) * upper
        exponent = coarse + fine
        lost = fine - (exponent - coarse)
        power = exp_nonpositive(-exponent)
        power -= power * lost
    if alpha is not None:
        power *= alpha * target + (T(1) - alpha) * other

    cost = rest if w == T(0) else rest + w * size
    bounded = min(cost, T(1e30))  # an infinite one meets a factor 0 in the derivatives
    focus = times * (w - v) * (d / m)
    tilt = w - v * d
    slope = power * (likely * (focus * bounded + tilt))
    bend = likely * (v * d * (d / m) - w / m)
    focus *= likely
    curvature = focus * ((focus + bend) * bounded + T(2) * (likely * tilt)) + d * likely * likely
    return power * cost, slope if logit >= T(0) else -slope, power * curvature


@sigmoid_focal.textbook
def _(logits, target, alpha, gamma, label_smoothing):
    t = (1 - label_smoothing) * target + label_smoothing / 2
    # p and 1 - p, each without cancellation
    decay = np.exp(np.where(logits.real > 0, -logits, logits))
    likely, unlikely = 1 / (1 + decay), decay / (1 + decay)
    p = np.where(logits.real > 0, likely, unlikely)
    q = np.where(logits.real > 0, unlikely, likely)
    cost = np.log1p(decay) + np.where(logits.real > 0, (1 - t) * logits, -t * logits)
    weight = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    miss = (1 - t) * p + t * q  # 1 - p_t
    power = weight * miss**gamma
    slope = power * ((1 - t) * p - t * q + gamma * (1 - 2 * t) * p * q / miss * cost)
    return power * cost, slope
