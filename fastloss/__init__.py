"""fastloss: exact, fused, multithreaded loss functions for NumPy arrays.

Each loss is an object ``fastloss.<name>``: call it for the value, `value_and_grad` for the value
and its gradient in one pass. ``fastloss.losses()`` returns them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what type checkers and editors see; one line for each loss
    from fastloss import capi as capi
    from fastloss import jit as jit
    from fastloss import nn as nn
    from fastloss._families import elementwise as elementwise
    from fastloss._families import rowwise as rowwise
    from fastloss._loss import Loss as Loss
    from fastloss._options import Option as Option
    from fastloss._penalty import l2_penalty as l2_penalty
    from fastloss.losses.arcface import arcface as arcface
    from fastloss.losses.binary_cross_entropy import binary_cross_entropy as binary_cross_entropy
    from fastloss.losses.categorical_cross_entropy import (
        categorical_cross_entropy as categorical_cross_entropy,
    )
    from fastloss.losses.cosface import cosface as cosface
    from fastloss.losses.cosine_distance import cosine_distance as cosine_distance
    from fastloss.losses.dice import dice as dice
    from fastloss.losses.entropy import entropy as entropy
    from fastloss.losses.expectile import expectile as expectile
    from fastloss.losses.exponential import exponential as exponential
    from fastloss.losses.gamma_nll import gamma_nll as gamma_nll
    from fastloss.losses.gaussian_nll import gaussian_nll as gaussian_nll
    from fastloss.losses.generalized_cross_entropy import (
        generalized_cross_entropy as generalized_cross_entropy,
    )
    from fastloss.losses.half_mse import half_mse as half_mse
    from fastloss.losses.hinge import hinge as hinge
    from fastloss.losses.huber import huber as huber
    from fastloss.losses.info_nce import info_nce as info_nce
    from fastloss.losses.jensen_shannon import jensen_shannon as jensen_shannon
    from fastloss.losses.kl_div import kl_div as kl_div
    from fastloss.losses.log_cosh import log_cosh as log_cosh
    from fastloss.losses.mae import mae as mae
    from fastloss.losses.mape import mape as mape
    from fastloss.losses.mse import mse as mse
    from fastloss.losses.msle import msle as msle
    from fastloss.losses.multi_margin import multi_margin as multi_margin
    from fastloss.losses.multiclass_hinge import multiclass_hinge as multiclass_hinge
    from fastloss.losses.nll import nll as nll
    from fastloss.losses.perceptron import perceptron as perceptron
    from fastloss.losses.pinball import pinball as pinball
    from fastloss.losses.poisson_nll import poisson_nll as poisson_nll
    from fastloss.losses.poly_cross_entropy import poly_cross_entropy as poly_cross_entropy
    from fastloss.losses.pseudo_huber import pseudo_huber as pseudo_huber
    from fastloss.losses.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
    from fastloss.losses.sigmoid_focal import sigmoid_focal as sigmoid_focal
    from fastloss.losses.smooth_l1 import smooth_l1 as smooth_l1
    from fastloss.losses.soft_margin import soft_margin as soft_margin
    from fastloss.losses.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy
    from fastloss.losses.softmax_focal import softmax_focal as softmax_focal
    from fastloss.losses.softmax_kl import softmax_kl as softmax_kl
    from fastloss.losses.sparsemax import sparsemax as sparsemax
    from fastloss.losses.squared_hinge import squared_hinge as squared_hinge
    from fastloss.losses.triplet_margin import triplet_margin as triplet_margin
    from fastloss.losses.tversky import tversky as tversky
    from fastloss.losses.tweedie import tweedie as tweedie

    def losses() -> dict[str, Loss]:
        """Return every loss of the library by its name."""

else:  # what happens: a loss is imported when first used, and with it Numba
    from fastloss import losses

    _DOORS = ("capi", "jit", "nn")  # submodules, imported when first used
    _PLACES = {
        "Loss": "_loss",
        "Option": "_options",
        "elementwise": "_families",
        "l2_penalty": "_penalty",
        "rowwise": "_families",
    }
    __all__ = [*_DOORS, *_PLACES, "losses", *losses.names()]

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise losses.no_attribute(__name__, name)
        if name in _DOORS:
            return import_module(f"{__name__}.{name}")
        if name in _PLACES:
            found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
        else:
            found = losses.find(name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted([*__all__, "__version__"])
