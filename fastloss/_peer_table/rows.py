"""Losses of rows (probabilities, embeddings, regions), as other libraries call them."""

from typing import Any

from fastloss._peer_table.record import Peers


def _torch_info_nce(functional: Any, anchors: Any, positives: Any) -> Any:
    import torch

    similarities = functional.normalize(anchors) @ functional.normalize(positives).T
    return functional.cross_entropy(similarities / 0.1, torch.arange(len(anchors)))


PEERS: dict[str, Peers] = {
    "nll": Peers(torch=lambda functional, x, y: functional.nll_loss(x, y)),
    "categorical_cross_entropy": Peers(
        torch=lambda functional, p, y: functional.nll_loss(p.log(), y)
    ),
    "entropy": Peers(torch=lambda functional, p: -(p * p.log()).sum(-1).mean()),
    "gaussian_nll": Peers(
        torch=lambda functional, mean, t, var: functional.gaussian_nll_loss(mean, t, var)
    ),
    "softmax_kl": Peers(
        torch=lambda functional, x, t: functional.kl_div(
            functional.log_softmax(x, -1),
            functional.log_softmax(t, -1),
            log_target=True,
            reduction="batchmean",
        )
    ),
    "cosine_distance": Peers(
        torch=lambda functional, a, b: (1 - functional.cosine_similarity(a, b)).mean(),
        optax=lambda optax, a, b: optax.cosine_distance(a, b).mean(),
    ),
    "triplet_margin": Peers(
        torch=lambda functional, a, b, c: functional.triplet_margin_loss(a, b, c, eps=0.0),
    ),
    "info_nce": Peers(torch=_torch_info_nce),
}
