"""The criteria with PyTorch's names whose loss has one value per element."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from fastloss._loss import Loss
from fastloss._validate import Array
from fastloss.nn._pytorch import PairCriterion, PyTorchCriterion, repeated


@dataclass(frozen=True, eq=False)
class MSELoss(PairCriterion):
    """Squared error, ``(input - target)**2``.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.mse`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.MSELoss()
    >>> criterion(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    2.5
    >>> criterion.backward()
    array([1., 2.])
    """

    _name: ClassVar[str] = "mse"

    _: KW_ONLY
    reduction: str = "mean"


@dataclass(frozen=True, eq=False)
class L1Loss(PairCriterion):
    """Absolute error, ``|input - target|``; the gradient at 0 is 0.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.mae`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.L1Loss().backward(np.array([1.0, -2.0]), np.array([0.0, 0.0]))
    array([ 0.5, -0.5])
    """

    _name: ClassVar[str] = "mae"

    _: KW_ONLY
    reduction: str = "mean"


@dataclass(frozen=True, eq=False)
class SmoothL1Loss(PairCriterion):
    """Smooth L1 loss, ``r**2 / (2 beta)`` where ``|r| < beta``, else ``|r| - beta / 2``.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.smooth_l1`.
    beta : float, default 1.0
        Where the loss turns from quadratic into linear, >= 0; with 0 it is `L1Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.SmoothL1Loss()(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
    1.3125
    """

    _name: ClassVar[str] = "smooth_l1"

    _: KW_ONLY
    reduction: str = "mean"
    beta: float = 1.0


@dataclass(frozen=True, eq=False)
class HuberLoss(PairCriterion):
    """Huber loss, ``r**2 / 2`` where ``|r| <= delta``, else ``delta (|r| - delta / 2)``.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.huber`.
    delta : float, default 1.0
        Where the loss turns from quadratic into linear, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.HuberLoss()(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
    1.3125
    """

    _name: ClassVar[str] = "huber"

    reduction: str = "mean"
    delta: float = 1.0


@dataclass(frozen=True, eq=False)
class BCELoss(PairCriterion):
    """Binary cross-entropy of probabilities, ``-t log(p) - (1 - t) log(1 - p)``.

    Parameters
    ----------
    weight : array_like, optional
        Multiplies the losses; of a shape that broadcasts to that of the input.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the number of elements, not by the sum of the weights.

    Notes
    -----
    As in PyTorch the gradient of a certain and wrong prediction is 1e12 in size. There is one
    difference: the loss of such an element is at most ``-log(1e-12)``, about 27.6, instead of 100,
    and the gradient of a certain and right one is 1 in size (the derivative), not 0. On logits,
    `BCEWithLogitsLoss` is exact.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.BCELoss(reduction="sum")
    >>> round(criterion(np.array([0.5, 0.75]), np.array([1.0, 0.0])), 6)
    2.079442
    """

    _name: ClassVar[str] = "binary_cross_entropy"

    weight: Any = None
    _: KW_ONLY
    reduction: str = "mean"

    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        loss, keywords = super()._meaning()
        # PyTorch clips the denominator of the gradient, p (1 - p), there.
        return loss, {**keywords, "eps": 1e-12}

    def _keywords_for(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        return _weighted(self, arrays[0])


def _weighted(criterion: "BCELoss | BCEWithLogitsLoss", input: Array) -> dict[str, Any]:
    """Return the keywords with the weight, which PyTorch's mean does not divide by."""
    if criterion.weight is None:
        return criterion._keywords
    weight = repeated(criterion.weight, input, type(criterion).__name__)
    keywords = {**criterion._keywords, "sample_weight": weight}
    if criterion.reduction == "mean":
        keywords["normalizer"] = input.size
    return keywords


@dataclass(frozen=True, eq=False)
class BCEWithLogitsLoss(PairCriterion):
    """Binary cross-entropy of logits, ``(1 - t) softplus(x) + pos_weight t softplus(-x)``.

    Parameters
    ----------
    weight : array_like, optional
        Multiplies the losses; of a shape that broadcasts to that of the input.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the number of elements, not by the sum of the weights.
    pos_weight : float or array_like, optional
        Weight of the positive part, >= 0; one number, or one for each entry of the last axis. (More
        dimensions, which PyTorch broadcasts, are a ValueError.)

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.BCEWithLogitsLoss()
    >>> criterion.backward(np.array([0.0, 0.0]), np.array([1.0, 0.0]))
    array([-0.25,  0.25])
    """

    _name: ClassVar[str] = "sigmoid_cross_entropy"

    weight: Any = None
    _: KW_ONLY
    reduction: str = "mean"
    pos_weight: Any = None

    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        loss, keywords = super()._meaning()
        if np.size(self.pos_weight) == 1 and np.ndim(self.pos_weight) == 1:
            keywords["pos_weight"] = np.asarray(self.pos_weight)[0]
        return loss, keywords

    def _keywords_for(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        return _weighted(self, arrays[0])


@dataclass(frozen=True, eq=False)
class SoftMarginLoss(PairCriterion):
    """Soft margin (logistic) loss, ``log(1 + exp(-t x))`` of a label t = ±1.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.soft_margin`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.SoftMarginLoss().backward(np.array([0.0, 0.0]), np.array([1.0, -1.0]))
    array([-0.25,  0.25])
    """

    _name: ClassVar[str] = "soft_margin"

    _: KW_ONLY
    reduction: str = "mean"


@dataclass(frozen=True, eq=False)
class KLDivLoss(PairCriterion):
    """Kullback-Leibler divergence, ``t (log(t) - x)`` of log-probabilities x.

    Parameters
    ----------
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        "batchmean" gives the divergence of the rows' distributions, averaged over them; "mean" also
        divides by the number of classes.
    log_target : bool, default False
        Whether the target holds logarithms: ``exp(t) (t - x)``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.KLDivLoss(reduction="batchmean")
    >>> round(criterion(np.log(np.array([[0.25, 0.75]])), np.array([[0.5, 0.5]])), 6)
    0.143841
    """

    _name: ClassVar[str] = "kl_div"

    _: KW_ONLY
    reduction: str = "mean"
    log_target: bool = False


@dataclass(frozen=True, eq=False)
class PoissonNLLLoss(PairCriterion):
    """Poisson loss, ``exp(x) - t x``, or ``x - t log(x + eps)``.

    Parameters
    ----------
    log_input : bool, default True
        Whether the input is the logarithm of the rate.
    full : bool, default False
        Whether to add Stirling's ``t log t - t + log(2 π t) / 2`` for targets t > 1.
    eps : float, default 1e-08
        Added to the rate in the logarithm, >= 0; used without `log_input` only.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.poisson_nll`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.PoissonNLLLoss().backward(np.array([0.0, 0.0]), np.array([1.0, 4.0]))
    array([ 0. , -1.5])
    """

    _name: ClassVar[str] = "poisson_nll"

    log_input: bool = True
    full: bool = False
    _: KW_ONLY
    eps: float = 1e-8
    reduction: str = "mean"


@dataclass(frozen=True, eq=False)
class GaussianNLLLoss(PyTorchCriterion):
    """Negative log-likelihood of a normal distribution, ``(log v + (x - t)**2 / v) / 2``.

    Its gradients are a pair: by the input, and by the variance.

    Parameters
    ----------
    full : bool, default False
        Whether to add the constant ``log(2 π) / 2``.
    eps : float, default 1e-6
        The smallest variance, > 0.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As in `fastloss.gaussian_nll`.

    Notes
    -----
    The variance has the shape of the input: nothing broadcasts, where PyTorch takes a number or one
    variance for each row. A negative variance counts as `eps`, where PyTorch raises an error.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.GaussianNLLLoss(reduction="sum")
    >>> loss = criterion(np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([1.0, 4.0]))
    >>> by_input, by_variance = criterion.backward()
    >>> by_input
    array([-1. , -0.5])
    """

    _name: ClassVar[str] = "gaussian_nll"

    _: KW_ONLY
    full: bool = False
    eps: float = 1e-6
    reduction: str = "mean"

    def forward(self, input: Any, target: Any, var: Any, *, upstream: Any = None) -> Any:
        """Compute the loss and its gradients, and return the loss.

        Parameters
        ----------
        input, target, var : array_like
            The means, the observations and the variances, of one shape.
        upstream : float or array_like, optional
            Multiplies the gradients (not the loss); with ``reduction="none"`` also one number per
            loss.

        Returns
        -------
        float or ndarray
            The reduced loss; with ``reduction="none"`` a new array of the single losses.
        """
        return self._run(input, target, var=var, upstream=upstream)
