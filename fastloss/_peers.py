"""The same losses in other libraries, for ``fastloss bench`` to compare with.

`fastloss._peer_table` says how each loss is called elsewhere; the builders here turn that into
candidates that all work on the same arrays. No library but PyTorch is imported before its candidate
is built.

Each candidate is given what makes it fast: buffers where it takes them, compilation for exactly
these shapes, and no conversion of inputs or results inside the timed call.
"""

import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloss._loss import Loss
from fastloss._peer_table import PEERS
from fastloss._peer_table.record import Peers

# Before Numba starts its threads. On Linux, an OpenMP runtime that is in the process already serves
# PyTorch too, and in one that Numba has started PyTorch's threads took 4 ms to wake up.
with suppress(ImportError):
    importlib.import_module("torch")

Array = NDArray[Any]


class Missing(Exception):
    """A library, or something it needs, is not installed; the message says what."""


@dataclass(frozen=True)
class Work:
    """What every candidate is given: a loss, its arrays, and the number of threads."""

    loss: Loss
    pred: Array
    target: Any  # an array, or None where the loss has no target
    gradient: bool = True
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)  # for fastloss alone, in bench/goals.py
    more: tuple[Array, ...] = ()  # the positional arrays behind the target
    keywords: dict[str, Array] = field(default_factory=dict)  # arrays that are given by name

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The positional arrays of the loss."""
        return (self.pred, *(() if self.target is None else (self.target,)), *self.more)

    @property
    def inputs(self) -> tuple[Array, ...]:
        """All arrays, as the other libraries are given them."""
        return *self.arrays, *self.keywords.values()

    @property
    def differentiable(self) -> tuple[int, ...]:
        """Which of the inputs get a gradient."""
        if self.keywords:
            return 0, len(self.arrays)
        return tuple(range(1 + len(self.loss._other_names)))

    @property
    def dense(self) -> bool:
        """Whether a softmax loss has one target per class instead of labels."""
        return self.loss.family == "softmax" and self.target.ndim == self.pred.ndim

    @property
    def peers(self) -> "Peers":
        """How other libraries call this loss."""
        name = f"{self.loss.name}, dense" if self.dense else self.loss.name
        return PEERS.get(name, Peers())

    @property
    def count(self) -> int:
        """The number of losses that the mean is over."""
        return self.pred.size // (1 if self.loss.family == "elementwise" else self.pred.shape[-1])


@dataclass(frozen=True)
class Candidate:
    """Something to time, and how to read what it returned.

    `result` turns what `call` returned into the mean loss and its gradient, which is left unread
    where the value alone was asked for. A `textbook` formula, ours and general, is no peer: nobody
    would train with it.
    """

    call: Callable[[], Any]
    result: Callable[[Any], tuple[Any, Any]] = lambda returned: returned
    textbook: bool = False


def build_fastloss(work: Work) -> Candidate:
    """Return this library's candidate; it takes Numba's setting for the number of threads."""
    loss, arrays, options = work.loss, work.arrays, {**work.options, **work.keywords}
    if not work.gradient:
        return Candidate(lambda: loss(*arrays, **options), lambda value: (value, None))
    out: Any = np.empty_like(work.pred)
    if len(work.differentiable) > 1:
        out = tuple(np.empty_like(work.pred) for _ in work.differentiable)
        return Candidate(
            lambda: loss.value_and_grad(*arrays, grad_out=out, **options),
            lambda returned: (returned[0], returned[1][0]),
        )
    if len(arrays) == 2:  # without the cost of unpacking them
        pred, target = arrays
        return Candidate(lambda: loss.value_and_grad(pred, target, grad_out=out, **options))
    return Candidate(lambda: loss.value_and_grad(*arrays, grad_out=out, **options))


def build_numpy(work: Work) -> Candidate:
    """Return NumPy's candidate: the entry of `PEERS`, else the loss's textbook formula."""
    formula, pred, target, gradient = work.peers.numpy, work.pred, work.target, work.gradient
    if formula is None:
        loss, arrays, keywords = work.loss, work.arrays, work.keywords
        several = len(work.differentiable) > 1
        return Candidate(
            lambda: loss.reference(*arrays, **keywords),
            lambda returned: (returned[0], returned[1][0] if several else returned[1]),
            textbook=True,
        )
    out = np.empty_like(pred)
    return Candidate(lambda: formula(pred, target, out, gradient))


def build_torch(work: Work) -> Candidate | None:
    """Return PyTorch's candidate: forward and backward, or forward alone without autograd."""
    if work.peers.torch is None:
        return None
    torch, loss, tensors = _torch(work)
    if not work.gradient:

        def forward() -> Any:
            with torch.inference_mode():
                return loss(*tensors)

        return Candidate(forward, lambda value: (value.numpy(), None))
    leaves = [tensors[k].requires_grad_() for k in work.differentiable]

    def forward_and_backward() -> tuple[Any, Any]:
        for leaf in leaves:
            leaf.grad = None
        value = loss(*tensors)
        value.backward()
        return value, leaves[0].grad

    return Candidate(
        forward_and_backward, lambda returned: (returned[0].detach().numpy(), returned[1].numpy())
    )


def build_torch_compile(work: Work) -> Candidate | None:
    """Return torch.compile's candidate: one compiled function of value and gradient."""
    if work.peers.torch is None:
        return None
    torch, loss, tensors = _torch(work)
    # PyTorch stops compiling a function after 8 shapes and would silently run it uncompiled.
    torch.compiler.reset()
    function = loss
    if work.gradient:
        function = torch.func.grad_and_value(loss, argnums=work.differentiable)
    compiled = torch.compile(function, dynamic=False, fullgraph=True)
    try:
        compiled(*tensors)
    except (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError):
        return None  # the loss looks at its data, and cannot be compiled as a whole
    except Exception as error:  # whatever the lack of a C++ compiler raises in this version
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise Missing(f"torch.compile: no working compiler ({reason[:100]})") from error
    if not work.gradient:
        return Candidate(lambda: compiled(*tensors), lambda value: (value.numpy(), None))
    return Candidate(
        lambda: compiled(*tensors),
        lambda returned: (returned[1].numpy(), returned[0][0].numpy()),
    )


def _torch(work: Work) -> tuple[Any, Callable[..., Any], list[Any]]:
    torch = _import("torch", "PyTorch")
    call = work.peers.torch
    assert call is not None
    torch.set_num_threads(work.threads)
    functional = torch.nn.functional
    return torch, lambda *tensors: call(functional, *tensors), [*map(torch.from_numpy, work.inputs)]


def build_jax(work: Work) -> Candidate | None:
    """Return the candidate of JAX and optax, waited for."""
    call = work.peers.optax
    if call is None:
        return None
    jax, optax = _import("jax", "JAX"), _import("optax", "JAX's optax")
    # Without this JAX turns float64 into float32.
    jax.config.update("jax_enable_x64", work.pred.dtype == np.float64)
    inputs = [jax.device_put(array) for array in work.inputs]

    def loss(*inputs: Any) -> Any:
        return call(optax, *inputs)

    gradient = jax.value_and_grad(loss, argnums=work.differentiable)
    compiled = jax.jit(gradient if work.gradient else loss)
    ready = jax.block_until_ready
    return Candidate(
        lambda: ready(compiled(*inputs)),
        lambda returned: (
            (np.asarray(returned[0]), np.asarray(returned[1][0]))
            if work.gradient
            else (np.asarray(returned), None)
        ),
    )


def set_jax_threads(threads: int) -> None:
    """Limit XLA to so many threads; JAX reads this once, when it starts its CPU client."""
    os.environ["NPROC"] = str(threads)


def build_sklearn(work: Work) -> Candidate | None:
    """Return scikit-learn's candidate: the private loss functions behind its own models.

    They give the single losses and their gradients and leave the mean to their caller.
    """
    name = work.peers.sklearn
    if name is None:
        return None
    module = _import("sklearn._loss.loss", "scikit-learn")
    softmax = work.loss.family == "softmax"
    keywords = {"n_classes": work.pred.shape[-1]} if softmax else {}
    loss = getattr(module, name)(**keywords)
    raw = work.pred if softmax else work.pred.reshape(-1)
    # It takes labels as numbers of pred's type.
    true = work.target.reshape(-1).astype(work.pred.dtype)
    losses = np.empty(true.shape, raw.dtype)
    given: dict[str, Any] = {"y_true": true, "raw_prediction": raw, "sample_weight": None}
    given |= {"loss_out": losses, "n_threads": work.threads}
    scale = np.longdouble(work.peers.sklearn_scale)

    def mean(losses: Array) -> Any:
        return scale * np.mean(losses, dtype=np.longdouble)

    if not work.gradient:
        return Candidate(lambda: loss.loss(**given), lambda losses: (mean(losses), None))
    given["gradient_out"] = np.empty_like(raw)
    return Candidate(
        lambda: loss.loss_gradient(**given),
        lambda returned: (
            mean(returned[0]),
            # Divided in longdouble where it is read: the rounding would not be scikit-learn's.
            Quotient(returned[1].reshape(work.pred.shape), work.count / scale),
        ),
    )


@dataclass(frozen=True)
class Quotient:
    """An array and what to divide it by, read in longdouble."""

    array: Array
    divisor: Any

    def __getitem__(self, index: Any) -> Any:
        return self.array[index].astype(np.longdouble) / self.divisor


def limits(work: Work) -> dict[str, tuple[str, Candidate]]:
    """Return what bounds any implementation from below: one pass over memory.

    Returns
    -------
    dict
        Under "limit" the loss's unavoidable arithmetic (one exp of each logit, or one addition),
        multithreaded by PyTorch where it is installed, and under "copy" the copying of pred. Each
        with its full name.
    """
    pred, out, operation = work.pred, np.empty_like(work.pred), work.peers.limit
    inputs: tuple[Array, ...] = (pred,)
    written = "x"
    if operation == "add":
        alike = work.target is not None and work.target.shape == pred.shape
        inputs, written = ((pred, work.target), "p, t") if alike else ((pred, pred), "p, p")
    try:
        torch = _import("torch", "PyTorch")
    except Missing:
        function = getattr(np, operation)
        name, call = f"np.{operation}({written}, out=o)", lambda: function(*inputs, out=out)
    else:
        torch.set_num_threads(work.threads)
        tensors, buffer = tuple(map(torch.from_numpy, inputs)), torch.from_numpy(out)
        function = getattr(torch, operation)
        name, call = f"torch.{operation}({written}, out=o)", lambda: function(*tensors, out=buffer)
    copy = Candidate(lambda: np.copyto(out, pred))
    return {"limit": (name, Candidate(call)), "copy": ("np.copyto(o, x)", copy)}


LIBRARIES: dict[str, Callable[[Work], Candidate | None]] = {
    "NumPy": build_numpy,
    "PyTorch": build_torch,
    "torch.compile": build_torch_compile,
    "JAX": build_jax,
    "scikit-learn": build_sklearn,
}
"""The peers, in the order of the columns. A builder returns None where the library has no such loss
and raises Missing where it is not installed."""


def _import(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Missing(f"{name} is not installed") from error
