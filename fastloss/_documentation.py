"""Docstrings: what a loss's file says of its own, joined with what holds for every loss."""

import re
import textwrap
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

_LABEL_ERROR = """
IndexError
    A label is outside ``[0, C)`` and not `ignore_index`; nothing has been written then."""

_AXIS_ERROR = """
numpy.exceptions.AxisError
    `axis` is out of range."""

_LAYOUT = """\
C-contiguous and Fortran-contiguous arrays are read and written where they are. Other layouts of
`{pred}`, and arrays that are not in the order of `{pred}`, go through a contiguous copy."""

_KEYWORDS = {
    "axis": """\
axis : int, default -1
    The axis along which a row's numbers lie.""",
    "ignore_index": """\
ignore_index : int, default -100
    Rows with this label have loss 0, gradient 0 and no weight.""",
    "class_weight": """\
class_weight : array_like, shape (C,), optional
    Weights of the classes; they count in the total weight too.""",
}
"""What the row losses take beside their own options; a loss's own words have precedence."""

_METHODS = {
    "value_and_grad": (
        "Return the loss and its gradient, computed in one pass.",
        "The reduced loss, and its gradient; or the single losses, and the gradient of their sum.",
    ),
    "grad": (
        "Return the gradient of the loss.",
        'The gradient of the reduced value (with "none", of the sum), of the shape and dtype of '
        "`{pred}`.",
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
the labels and the shapes of the arrays. Takes the options of `fastloss.{name}`,
`sample_weight`, `reduction` and `normalizer`."""


_NO_HESSIAN = (
    "Raise NotImplementedError: this loss has no diagonal Hessian.",
    "Nothing. The method is here so that code for any loss can ask for a Hessian and be told.",
)


def _filled(template: str, **names: str) -> str:
    """Return a template with the names put in, its paragraphs broken into lines anew."""

    def fill(paragraph: re.Match[str]) -> str:
        indent = paragraph[1]
        return textwrap.fill(
            " ".join(paragraph[0].split()), 100, initial_indent=indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    # lines of one indentation belong together; the head of a parameter, "name : type", stands alone
    paragraphs = r"^( *)(?!\w+ : )\S.*(?:\n\1(?!\w+ : )\S.*)*"
    return re.sub(paragraphs, fill, template.format(**names), flags=re.MULTILINE)


def _completed(loss: "Loss", own: str) -> str:
    """Return a loss's own docstring with the sections it needs, in their order.

    What the function returns and raises is not what the loss does.
    """
    summary, *rest = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", own, flags=re.MULTILINE)
    sections = dict(zip(rest[::2], (body.strip("\n") for body in rest[1::2]), strict=True))
    parameters = [sections.pop("Parameters", "")]
    for name, what in _own_parameters(loss).items():
        if not re.search(rf"^[\w, ]*\b{name}\b[\w, ]*:", parameters[0], re.MULTILINE):
            parameters.append(f"{name} : {what}")
    for title in ("Returns", "Raises"):
        sections.pop(title, None)
    sections = {"Parameters": "\n".join(filter(None, parameters)), "Notes": "", **sections}
    parts = [summary.strip() or f"Loss `{loss.name}`."]
    return "\n\n".join(
        parts + [f"{title}\n{'-' * len(title)}\n{body}" for title, body in sections.items()]
    )


def _own_parameters(loss: "Loss") -> dict[str, str]:
    """Return what can be said of the arrays and the options, for want of better words."""
    pred, rows = loss._pred_name, loss.family != "elementwise"
    shape = ", shape (..., C, ...)" if rows else ""
    lie = "Rows of C numbers, which lie along `axis`." if rows else "Predictions, of any shape."
    like = f"True values, of the shape of `{pred}`; its dtype, or bool or integer."
    if "ignore_index" in loss.family_keywords:
        like = f"Integer labels in [0, C), of the shape of `{pred}` without `axis`."
    texts = {pred: f"array_like, float32 or float64{shape}\n    {lie}"}
    for name in loss._other_names:
        texts[name] = f"array_like\n    The same, of the shape and dtype of `{pred}`."
    if loss._target_name:
        texts[loss._target_name] = f"array_like\n    {like}"
    for name, option in loss.options.items():
        domain = f"An option of the loss: {option.domain}."
        texts[name] = f"{_kind(option.default)}\n    {domain}"
    return texts


def _kind(default: object) -> str:
    kind = "bool" if isinstance(default, bool) else "float"
    return f"{kind}, optional" if default is None else f"{kind}, default {default!r}"


def of_loss(loss: "Loss", own: str) -> str:
    """Return the docstring of a loss: its own text with the common sections put in their places.

    The own text is a NumPy docstring whose Parameters are the arrays and the loss's own options;
    the common parameters follow them, then Returns and Raises, then the own remaining sections.
    """
    pred = loss._pred_name
    own = _completed(loss, cleandoc(own))
    head, notes, tail = own.partition("\nNotes\n-----\n")
    rows = loss.family != "elementwise"
    shape = "one per row" if rows else f"of the shape of `{pred}` or one per entry of axis 0"
    keywords = [
        _KEYWORDS[name] for name in loss.family_keywords if f"\n{name} :" not in head
    ]  # fmt: skip
    common = "\n".join([*keywords, _filled(_COMMON, weight_shape=shape, pred=pred)])
    errors = ""
    if rows:
        errors = _LABEL_ERROR if "ignore_index" in loss.family_keywords else ""
        errors += _AXIS_ERROR
    returns = _RETURNS.format(pred=pred, more_errors=errors)
    layout = _filled(_LAYOUT, pred=pred)
    return f"{head.rstrip()}\n{common}\n\n{returns}\n{notes}{layout}\n\n{tail}"


def of_method(loss: "Loss", method: str) -> str:
    """Return the docstring of one of a loss's methods."""
    summary, returned = _METHODS[method]
    if method == "value_grad_hess" and not loss._properties.get("hessian", True):
        summary, returned = _NO_HESSIAN
    elif loss._other_names:
        *first, last = (f"`{name}`" for name in (loss._pred_name, *loss._other_names))
        returned = f"{returned.removesuffix('.')}:\na tuple, by {', '.join(first)} and {last}."
    names = {"pred": loss._pred_name, "name": loss.name}
    returned = _filled(returned, **names)
    if method == "reference":
        return f"{summary}\n\n{_filled(_REFERENCE, **names)}\n\nReturns\n-------\n{returned}\n"
    extra = _GRADIENT + ("\n" + _HESSIAN if method == "value_grad_hess" else "")
    if loss._other_names:
        extra = extra.replace("grad_out : ndarray", "grad_out : tuple of ndarray")
        extra = extra.replace("hess_out : ndarray", "hess_out : tuple of ndarray")
        extra = extra.replace(" `grad_out={pred}` computes in place.", "")
        extra = extra.replace("the shape", "each of the shape")
    text = f"{summary}\n\nTakes the arguments of `fastloss.{loss.name}` and:\n\n"
    return (
        f"{text}Parameters\n----------\n{_filled(extra, **names)}\n\nReturns\n-------\n{returned}\n"
    )
