"""Losses of rows with a margin, as other libraries call them."""

from fastloss._peer_table.record import Peers

PEERS: dict[str, Peers] = {
    "multiclass_hinge": Peers(
        optax=lambda optax, x, y: optax.losses.multiclass_hinge_loss(x, y).mean(),
        limit="add",
    ),
    "multi_margin": Peers(
        torch=lambda functional, x, y: functional.multi_margin_loss(x, y),
        limit="add",
    ),
    "sparsemax": Peers(
        optax=lambda optax, x, y: optax.losses.multiclass_sparsemax_loss(x, y).mean(),
        limit="add",
    ),
}
