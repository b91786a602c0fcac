"""Losses of rows (probabilities, embeddings, regions), as other libraries call them."""

from fastloss._peer_table.record import Peers

PEERS: dict[str, Peers] = {}
