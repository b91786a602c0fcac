"""Losses of two classes, and of probabilities, as other libraries call them."""

from fastloss._peer_table.record import Peers

PEERS: dict[str, Peers] = {
    "binary_cross_entropy": Peers(
        torch=lambda functional, p, t: functional.binary_cross_entropy(p, t),
    ),
    "sigmoid_focal": Peers(
        optax=lambda optax, x, t: optax.sigmoid_focal_loss(x, t, gamma=2.0).mean(),
    ),
    "hinge": Peers(
        optax=lambda optax, p, t: optax.hinge_loss(p, t).mean(),
        limit="add",
    ),
    "squared_hinge": Peers(limit="add"),
    "perceptron": Peers(
        optax=lambda optax, p, t: optax.losses.perceptron_loss(p, t).mean(),
        limit="add",
    ),
    "soft_margin": Peers(
        torch=lambda functional, p, t: functional.soft_margin_loss(p, t),
    ),
    "kl_div": Peers(  # PyTorch warns of its own mean
        torch=lambda functional, p, t: functional.kl_div(p, t, reduction="sum") / p.numel(),
        optax=lambda optax, p, t: optax.kl_divergence(p, t).sum() / p.size,
    ),
}
