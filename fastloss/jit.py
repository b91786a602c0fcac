"""The losses inside your own ``@numba.njit`` code.

``fastloss.jit.<name>`` is a compiled function without checks, allocation or Python: of an
elementwise loss its *point function*, of any other its *row function*. Call them from your own
loops; there they are inlined and become vector code::

    loss, slope, curvature = fl.jit.huber(pred, target, delta=0.5)
    loss = fl.jit.softmax_cross_entropy(logits, label, grad)

- A point function takes and returns numbers. The slope and the curvature are the first and second
  derivative by `pred`, which must be float32 or float64; target and options are taken in its type.
- A row function takes contiguous one-dimensional arrays of one type, and an integer label or a row
  as the target, whichever the loss takes. It fills `grad`, which must not overlap the other arrays,
  or leaves it out with None; with several inputs all gradients follow, as in
  ``fl.jit.triplet_margin(anchor, positive, negative, by_anchor, by_positive, by_negative)``.
  A label outside [0, C) reads nothing outside the row: loss and gradient are NaN.
- Options are those of the loss, by position or keyword. One that is left out, or None, has its
  default and is compiled away wherever the formula does without; one that is given is compiled in.
  Flags that vary at run time work, at the price of both variants. Weights, reductions,
  `ignore_index` and `ignore_value` are the caller's: multiply, sum or skip as you like.

Their arithmetic is compiled under its own rules. The ``fastmath`` of your function does not touch
it: NaN and inf stay, and the stated accuracy holds. Sums in your loop are your own, though: Numba
adds in order, which keeps a loop from becoming vector code, unless your function is compiled with
``fastmath={"reassoc"}``.

The losses themselves work in nopython code too, on C-contiguous arrays::

    loss = fl.huber(pred, target, delta=0.5)
    loss, grad = fl.huber.value_and_grad(pred, target, grad_out=grad)

with `grad` as a further method, the options of the loss and the keywords `sample_weight`,
`class_weight`, `ignore_index` and `reduction` ("mean", "batchmean" or "sum", written in the call).
The class axis is the last. The types of all arguments are checked when your function is compiled,
shapes, domains and labels when it runs. They run the very kernel that a call from Python runs on
one thread, so the results have the same bits, and they work in your own ``prange``. (Numba drops
exceptions that are raised inside a ``prange``; do not rely on them there.) A loss may also be an
argument of your function.

With ``@njit(cache=True)`` your function is stored together with what it calls from here, and Numba
does not notice when fastloss is upgraded: delete its cache then.

Examples
--------
The transmission rate of an epidemic, found by gradient descent on the Poisson loss of the cases
reported each day. The model carries its own derivative along.

>>> import numba
>>> import numpy as np
>>> import fastloss as fl
>>> @numba.njit
... def spread(transmission, recovery, people, log_cases, sensitivity):
...     healthy, infected, d_healthy, d_infected = people - 10.0, 10.0, 0.0, 0.0
...     for day in range(log_cases.size):
...         cases = transmission * healthy * infected / people
...         d_cases = cases / transmission
...         d_cases += transmission * (d_healthy * infected + healthy * d_infected) / people
...         log_cases[day], sensitivity[day] = np.log(cases), d_cases / cases
...         healthy, d_healthy = healthy - cases, d_healthy - d_cases
...         infected += cases - recovery * infected
...         d_infected += d_cases - recovery * d_infected
>>> @numba.njit
... def calibrate(cases, recovery, people, transmission, rate, steps):
...     log_cases, slopes = np.empty(cases.size), np.empty(cases.size)
...     sensitivity = np.empty(cases.size)
...     for _ in range(steps):
...         spread(transmission, recovery, people, log_cases, sensitivity)
...         fl.poisson_nll.value_and_grad(log_cases, cases, grad_out=slopes)
...         gradient = 0.0
...         for day in range(cases.size):
...             gradient += slopes[day] * sensitivity[day]
...         transmission -= rate * gradient / cases.mean()
...     return transmission
>>> log_cases, sensitivity = np.empty(60), np.empty(60)
>>> spread(0.4, 0.2, 1e5, log_cases, sensitivity)
>>> cases = np.random.default_rng(1).poisson(np.exp(log_cases)).astype(float)
>>> round(calibrate(cases, 0.2, 1e5, transmission=0.3, rate=1e-3, steps=100), 3)
0.4

A Poisson regression by stochastic gradient descent in batches of 8. The same loop in NumPy spends
thirty times as long, most of it in the calls.

>>> @numba.njit
... def fit(features, counts, rate, epochs):
...     weights, change = np.zeros(features.shape[1]), np.zeros(features.shape[1])
...     for epoch in range(epochs):
...         for start in range(0, len(counts) - 7, 8):
...             change[:] = 0.0
...             for row in range(start, start + 8):
...                 score = 0.0
...                 for k in range(weights.size):
...                     score += features[row, k] * weights[k]
...                 _, slope, _ = fl.jit.poisson_nll(score, counts[row])
...                 for k in range(weights.size):
...                     change[k] += slope * features[row, k]
...             for k in range(weights.size):
...                 weights[k] -= rate / 8 * change[k]
...     return weights
>>> rng = np.random.default_rng(0)
>>> features = rng.normal(size=(8000, 5))
>>> counts = rng.poisson(np.exp(features @ [0.5, -0.4, 0.3, -0.2, 0.1])).astype(float)
>>> fit(features, counts, rate=0.01, epochs=5).round(1)
array([ 0.5, -0.4,  0.3, -0.2,  0.1])
"""

import inspect
import re
from functools import cache
from typing import Any

import numba

from fastloss._jit import POINTS
from fastloss._loss import Loss
from fastloss._nopython.building import options_of, taking, unique_name, with_parameters
from fastloss._nopython.functions import (
    attribute_of,
    function_of,
    gradients_of,
    has_function,
    parameters_of,
    require_function,
    targets_of,
)
from fastloss.losses import find, names


@cache
def of(loss: Loss) -> Any:
    """Return the point or row function of a loss, your own included.

    Parameters
    ----------
    loss : Loss
        A loss such as ``fastloss.huber``, for which this is ``fastloss.jit.huber``.

    Returns
    -------
    numba.core.registry.CPUDispatcher
        The function: to be called from ``@numba.njit`` code, or from Python.

    Raises
    ------
    TypeError
        It is not a loss.
    ValueError
        The loss is not one of single rows: those of `info_nce` meet all others.

    Examples
    --------
    >>> import fastloss as fl
    >>> fl.jit.of(fl.huber)(3.0, 1.0, delta=0.5)
    (0.875, 0.5, 0.0)
    """
    require_function(loss, "jit.of")
    defaults = {  # what can be compiled away is None
        name: None if option.neutral or not isinstance(option.default, float) else option.default
        for name, option in options_of(loss).items()
    }
    body = taking(loss, function_of(loss))
    function = with_parameters(body, unique_name(loss, "jit"), parameters_of(loss), defaults)
    function.__doc__ = _documentation_of(loss)
    return numba.njit(**POINTS)(function)


def _documentation_of(loss: Loss) -> str:
    """Return the docstring of a point or row function; the words on options are the loss's own."""
    text = inspect.getdoc(loss) or ""
    own = dict(re.findall(r"^(\w+) (: .*\n(?: +\S.*\n)+)", text, re.MULTILINE))
    pred, others, target = loss._pred_name, loss._other_names, loss._target_name
    if loss.family == "elementwise":
        kind, several = "point", ", ".join([*parameters_of(loss)][1:])
        entries = [f"{pred} : float32 or float64\n", f"{several} : number\n"]
        returned = f"The loss, its slope and its curvature: the derivatives by `{pred}`"
        returned += f", then those by `{others[0]}`." if others else "."
    else:
        kind, row = "row", "ndarray, shape (C,)"
        label, dense = targets_of(loss)
        wanted = " or ".join(["int in [0, C)"] * label + [row] * dense)
        entries = [f"{name} : {row}\n" for name in (pred, *others)]
        entries += [f"{target} : {wanted}\n"] if target else []
        entries.append(f"{', '.join(gradients_of(loss))} : {row}, optional\n    To be filled.\n")
        returned = "The loss, of the type of the row."
    for name in options_of(loss):
        entries.append(f"{name} {own[name].replace(' or array_like', '')}" if name in own else "")
    return (
        f"{text.partition(chr(10))[0]}\n\nThe {kind} function of `fastloss.{loss.name}`, for your "
        f"own compiled code: see `fastloss.jit`.\n\nParameters\n----------\n{''.join(entries)}\n"
        f"Returns\n-------\n{'tuple of float' if kind == 'point' else 'float'}\n    {returned}\n"
    )


def __getattr__(name: str) -> Any:
    return of(attribute_of(__name__, name))


def __dir__() -> list[str]:
    return ["of", *(name for name in names() if has_function(find(name)))]
