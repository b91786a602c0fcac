"""The losses that are a softmax cross-entropy of cosines with a margin at the label."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from fastloss._drivers import margins
from fastloss._families.declaration import declared, own_function
from fastloss._families.rows import RowLoss
from fastloss._jit import MATHEMATICS
from fastloss._options import Option, positive
from fastloss._own import Own, stating


class MarginLoss(RowLoss):
    """A row loss with a loop template of its own, `fastloss._drivers.margins`."""

    def _stating(self, function: FunctionType) -> FunctionType:
        """Return the function of a row, which has the template as its attribute `block`."""
        row = stating(margins.row, Own(function, MATHEMATICS))
        row.__dict__["block"] = margins.margin_block
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
        return MarginLoss(
            own,
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
