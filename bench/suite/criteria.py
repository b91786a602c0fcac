"""Criteria: what a training step pays for the loss, forward and backward."""

import numpy as np

from .common import DTYPES, SHAPES, find, set_threads

CRITERIA = ["MSELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "SoftmaxCrossEntropy"]


class Criteria:
    """One step of a criterion beside the loss itself, called with a buffer."""

    params = (CRITERIA, DTYPES, ["small", "in cache"])
    param_names = ("criterion", "dtype", "shape")

    def setup(self, name, dtype, shape):
        set_threads(1)
        rng, (rows, classes) = np.random.default_rng(0), SHAPES[shape]
        self.input = rng.standard_normal((rows, classes)).astype(dtype)
        self.target = rng.integers(0, classes, rows)
        if name != "CrossEntropyLoss":
            self.target = np.eye(classes, dtype=dtype)[self.target]
        self.criterion = getattr(find("nn"), name)()
        self.out = np.empty_like(self.input)
        self.time_step()
        self.time_loss_itself()

    def time_step(self, *_):
        self.criterion.forward(self.input, self.target)
        self.criterion.backward()

    def time_loss_itself(self, *_):
        self.criterion.loss.value_and_grad(self.input, self.target, grad_out=self.out)
