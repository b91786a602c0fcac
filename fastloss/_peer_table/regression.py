"""Regression losses, as other libraries call them."""

from fastloss._peer_table.record import Peers

PEERS: dict[str, Peers] = {
    "half_mse": Peers(
        optax=lambda optax, p, t: optax.l2_loss(p, t).mean(),
        sklearn="HalfSquaredError",
        limit="add",
    ),
    "mae": Peers(
        torch=lambda functional, p, t: functional.l1_loss(p, t),
        sklearn="AbsoluteError",
        limit="add",
    ),
    "huber": Peers(
        torch=lambda functional, p, t: functional.huber_loss(p, t),
        optax=lambda optax, p, t: optax.huber_loss(p, t).mean(),
        limit="add",
    ),
    "smooth_l1": Peers(
        torch=lambda functional, p, t: functional.smooth_l1_loss(p, t),
        limit="add",
    ),
    "log_cosh": Peers(optax=lambda optax, p, t: optax.log_cosh(p, t).mean()),
    "pinball": Peers(sklearn="PinballLoss", limit="add"),
    "poisson_nll": Peers(
        torch=lambda functional, p, t: functional.poisson_nll_loss(p, t),
        sklearn="HalfPoissonLoss",
    ),
    "gamma_nll": Peers(sklearn="HalfGammaLoss"),
    "tweedie": Peers(sklearn="HalfTweedieLoss"),
    # No peer has it: what counts here is the limit, an addition instead of an exponential. (A root
    # or a division, as in pseudo_huber and mape, costs nearly as much as an exponential.)
    "expectile": Peers(limit="add"),
}
