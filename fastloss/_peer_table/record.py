"""One loss in the words of other libraries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Peers:
    """One loss in the words of other libraries; None where a library does not have it."""

    numpy: Callable[[Array, Array, Array, bool], Any] | None = None  # (pred, target, out, gradient)
    torch: Callable[..., Any] | None = None  # (torch.nn.functional, *arrays)
    optax: Callable[..., Any] | None = None  # (optax, *arrays)
    sklearn: str | None = None
    sklearn_scale: float = 1.0  # our loss divided by theirs
    exact: Callable[[Array, Array], tuple[Array, Array]] | None = None  # without cancellation
    limit: str = "exp"
