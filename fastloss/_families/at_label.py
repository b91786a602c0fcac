"""The row losses that a file states by a function of one number: the entry at the label.

Two loop templates complete it: `margin_softmax` takes the other entries in by a softmax, and to
`at_label` they do not matter.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from fastloss._drivers import entries, margins
from fastloss._families.declaration import declared, own_function
from fastloss._families.rows import RowLoss
from fastloss._jit import MATHEMATICS
from fastloss._options import Option, positive
from fastloss._own import Own, stating


class AtLabelLoss(RowLoss):
    """A row loss that a function of the label's entry states, and a loop template completes.

    Parameters
    ----------
    function : function
        The loss's own, of the entry at the label.
    row, block : function
        The template, for a single row and for rows; `own` in it is bound to that function.
    tiled : bool
        Whether the template has a way of its own for rows of few classes.
    """

    def __init__(
        self, function: FunctionType, row: Any, block: Any, tiled: bool, **record: Any
    ) -> None:
        self._row, self._block, self._tiled = row, block, tiled
        super().__init__(function, **record)

    def _stating(self, function: FunctionType) -> FunctionType:
        """Return the function of a row, which has the template as its attributes."""
        row = stating(self._row, Own(function, MATHEMATICS))
        row.__dict__.update(block=self._block, tiled=self._tiled)
        return row


def margin_softmax(
    *, options: dict[str, Option], ulp_bound: float, nanoseconds: float
) -> Callable[[Callable[..., Any]], RowLoss]:
    """Make a loss of a function ``(cosine, *options) -> (moved, slope)`` of the label's cosine.

    It returns what stands in the cosine's place, and the derivative of that by the cosine. The
    option `scale`, by which all cosines are multiplied, is the template's and comes first.
    """

    def decorate(decorated: Any) -> RowLoss:
        own = own_function(decorated, "margin_softmax")
        _, found = declared(own, ("cosine",), options)
        return AtLabelLoss(
            own,
            margins.row,
            margins.margin_block,
            tiled=True,
            arguments=("cosines", "labels"),
            domains=("cosine", "labels"),
            inputs=1,
            class_weight=False,
            hessian=False,
            options={"scale": positive(64.0), **found},
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers={},
        )

    return decorate


def at_label(
    *,
    pred: str,
    arguments: tuple[str, str],
    options: dict[str, Option] | None = None,
    convex: bool,
    ulp_bound: float,
    nanoseconds: float,
    peers: dict[str, str],
) -> Callable[[Callable[..., Any]], RowLoss]:
    """Make a loss of a function ``(entry, *options) -> (loss, slope, bend)`` of the label's entry.

    It returns the loss of the row and its two derivatives by that entry. The arguments are those of
    `rowwise`.
    """

    def decorate(decorated: Any) -> RowLoss:
        own = own_function(decorated, "at_label")
        _, found = declared(own, ("entry",), options)
        return AtLabelLoss(
            own,
            entries.row,
            entries.entry_block,
            tiled=False,
            arguments=arguments,
            domains=(pred, "labels"),
            inputs=1,
            class_weight=True,
            hessian=True,
            options=found,
            convex=convex,
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers=peers,
        )

    return decorate
