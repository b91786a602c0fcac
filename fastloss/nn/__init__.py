"""Criteria for hand-written networks: losses that keep their gradient until it is asked for.

``forward(input, target)`` returns the loss and computes the gradient in the same pass, into a
buffer that is used again in every step; ``backward()`` hands it out. There are

- the criteria of PyTorch, with its names, arguments and results: `MSELoss`, `L1Loss`,
  `SmoothL1Loss`, `HuberLoss`, `BCELoss`, `BCEWithLogitsLoss`, `SoftMarginLoss`, `KLDivLoss`,
  `PoissonNLLLoss`, `GaussianNLLLoss`, `CrossEntropyLoss`, `NLLLoss`, `MultiMarginLoss`,
  `MultiLabelSoftMarginLoss`, `CosineEmbeddingLoss` and `TripletMarginLoss`. PyTorch's deprecated
  `size_average` and `reduce` are left out, and what it has behind them is keyword-only here. A mean
  of nothing is 0, not NaN;
- the textbook's, divided by the batch size: `SoftmaxCrossEntropy`, `SigmoidCrossEntropy`, `MSE`;
- `criterion`, which makes one of any loss of the library, or of your own.

`Criterion` describes what they share.

Examples
--------
A network with one hidden layer learns the exclusive or:

>>> import numpy as np
>>> import fastloss as fl
>>> rng = np.random.default_rng(0)
>>> x, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])
>>> w1, b1, w2 = rng.normal(size=(2, 8)), np.zeros(8), rng.normal(size=(8, 2))
>>> criterion = fl.nn.CrossEntropyLoss()
>>> for step in range(200):
...     hidden = np.tanh(x @ w1 + b1)
...     loss = criterion(hidden @ w2, y)
...     d_logits = criterion.backward()
...     d_hidden = (d_logits @ w2.T) * (1 - hidden**2)
...     w2 -= hidden.T @ d_logits
...     w1 -= x.T @ d_hidden
...     b1 -= d_hidden.sum(axis=0)
>>> loss < 0.02
True
>>> (np.tanh(x @ w1 + b1) @ w2).argmax(axis=1)
array([0, 1, 1, 0])
"""

from fastloss.nn._criterion import Criterion, criterion
from fastloss.nn._elementwise import (
    BCELoss,
    BCEWithLogitsLoss,
    GaussianNLLLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    PoissonNLLLoss,
    SmoothL1Loss,
    SoftMarginLoss,
)
from fastloss.nn._rowwise import (
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    MultiLabelSoftMarginLoss,
    MultiMarginLoss,
    NLLLoss,
    TripletMarginLoss,
)
from fastloss.nn._textbook import MSE, SigmoidCrossEntropy, SoftmaxCrossEntropy

__all__ = [
    "MSE",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "Criterion",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SigmoidCrossEntropy",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "SoftmaxCrossEntropy",
    "TripletMarginLoss",
    "criterion",
]
