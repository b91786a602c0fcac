"""fastloss: exact, fused, multithreaded loss functions for NumPy arrays.

Each loss is an object ``fastloss.<name>``: call it for the value, `value_and_grad` for the value
and its gradient in one pass. ``fastloss.losses()`` returns them all.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what type checkers and editors see; one line for each loss
    from fastloss._loss import Loss
    from fastloss.losses.mse import mse as mse
    from fastloss.losses.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
    from fastloss.losses.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy

    def losses() -> dict[str, Loss]:
        """Return every loss of the library by its name."""

else:  # what happens: a loss is imported when first used, and with it Numba
    from fastloss import losses

    __all__ = ["losses", *losses.names()]

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'fastloss' has no attribute {name!r}")
        loss = losses()[name]
        globals()[name] = loss
        return loss

    def __dir__() -> list[str]:
        return sorted([*__all__, "__version__"])
