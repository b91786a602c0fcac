"""Docstrings: what a loss's file says of its own, joined with what holds for every loss."""

from inspect import cleandoc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastloss._loss import Loss

_COMMON = """\
sample_weight : array_like, optional
    Weights of the single losses, {weight_shape}.
    Taken in the dtype of `{pred}`. Where one is 0, loss and gradient are exactly 0, whatever
    stands there.
reduction : {{"mean", "batchmean", "sum", "none"}}, default "mean"
    "mean" divides the sum of the weighted losses by the total weight, "batchmean" by the
    length of the first axis; "none" returns the single weighted losses.
normalizer : float, optional
    Divides instead of the total weight (with "mean").
num_threads : int, optional
    At most so many threads; by default Numba's own setting. Results do not depend on it.
loss_out : ndarray, optional
    Receives the single losses (with "none")."""

_GRADIENT = """\
grad_out : ndarray, optional
    Receives the gradient; the shape and dtype of `{pred}`. `grad_out={pred}` computes in place.
upstream : float or array_like, optional
    Multiplies the gradient; with "none" also one number per loss.
accumulate : bool, default False
    Add to `grad_out` instead of overwriting it."""

_HESSIAN = """\
hess_out : ndarray, optional
    Receives the diagonal of the Hessian; the shape and dtype of `{pred}`."""

_RETURNS = """\
Returns
-------
float or ndarray
    The reduced loss, summed in float64; with "none" an array of the dtype of `{pred}`.

Raises
------
ValueError
    Shapes differ (nothing broadcasts), an option is outside its domain, or an out buffer is
    read-only or overlaps an input.
TypeError
    A dtype is not accepted (nothing is cast silently), or a keyword is unknown.{more_errors}"""

_SOFTMAX_ERRORS = """
IndexError
    A label is outside ``[0, C)`` and not `ignore_index`; nothing has been written then.
numpy.exceptions.AxisError
    `axis` is out of range."""

_LAYOUT = """\
C-contiguous and Fortran-contiguous arrays are read and written where they are. Other layouts of
`{pred}`, and a target or buffer that is not in the order of `{pred}`, go through a contiguous
copy."""

_METHODS = {
    "value_and_grad": (
        "Return the loss and its gradient, computed in one pass.",
        "The reduced loss (or the single losses), and the gradient of the reduced value.",
    ),
    "grad": (
        "Return the gradient of the loss.",
        "The gradient of the reduced value, of the shape and dtype of `{pred}`.",
    ),
    "value_grad_hess": (
        "Return the loss, its gradient and the diagonal of its Hessian, computed in one pass.",
        "The reduced loss, and its first and second derivatives by each entry of `{pred}`.",
    ),
    "reference": (
        "Return the loss and its gradient by the textbook formula, in plain NumPy.",
        "The reduced loss (or the single losses), and its gradient, in the type of `{pred}`.",
    ),
}

_REFERENCE = """\
Meant to be read and to be compared with, also in longdouble or with complex numbers: it checks
little. Takes the options of `fastloss.{name}`,
`sample_weight`, `reduction` and `normalizer`."""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def of_loss(loss: "Loss", own: str) -> str:
    """Return the docstring of a loss: its own text with the common sections put in their places.

    The own text is a NumPy docstring whose Parameters are the arrays and the loss's own options;
    the common parameters follow them, then Returns and Raises, then the own remaining sections.
    """
    pred = loss._pred_name
    own = cleandoc(own)
    head, notes, tail = own.partition("\nNotes\n-----\n")
    softmax = loss.family == "softmax"
    shape = "one per row" if softmax else f"of the shape of `{pred}` or one per entry of axis 0"
    common = _COMMON.format(weight_shape=shape, pred=pred)
    returns = _RETURNS.format(pred=pred, more_errors=_SOFTMAX_ERRORS if softmax else "")
    layout = _LAYOUT.format(pred=pred)
    return f"{head.rstrip()}\n{common}\n\n{returns}\n{notes}{layout}\n\n{tail}"


def of_method(loss: "Loss", method: str) -> str:
    """Return the docstring of one of a loss's methods."""
    summary, returned = _METHODS[method]
    if method == "reference":
        text = f"{summary}\n\n{_REFERENCE}\n\nReturns\n-------\n{returned}\n"
        return text.format(name=loss.name, pred=loss._pred_name)
    extra = _GRADIENT + ("\n" + _HESSIAN if method == "value_grad_hess" else "")
    text = f"{summary}\n\nTakes the arguments of `fastloss.{loss.name}` and:\n\n"
    text += f"Parameters\n----------\n{extra}\n\nReturns\n-------\n{returned}\n"
    return text.format(pred=loss._pred_name)
