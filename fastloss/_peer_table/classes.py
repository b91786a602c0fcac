"""Losses of softmax rows, as other libraries call them."""

from typing import Any

from fastloss._peer_table.record import Peers


def _torch_focal(functional: Any, logits: Any, labels: Any) -> Any:
    log_p = -functional.cross_entropy(logits, labels, reduction="none")
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


def _torch_poly(functional: Any, logits: Any, labels: Any) -> Any:
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return (losses + 1 - (-losses).exp()).mean()


def _torch_generalized(functional: Any, logits: Any, labels: Any) -> Any:
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return ((1 - (-0.7 * losses).exp()) / 0.7).mean()


def _optax_poly(optax: Any, logits: Any, labels: Any) -> Any:
    import jax

    target = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.losses.poly_loss_cross_entropy(logits, target, epsilon=1.0).mean()


PEERS: dict[str, Peers] = {
    "softmax_focal": Peers(torch=_torch_focal),
    "poly_cross_entropy": Peers(torch=_torch_poly, optax=_optax_poly),
    "generalized_cross_entropy": Peers(torch=_torch_generalized),
}
