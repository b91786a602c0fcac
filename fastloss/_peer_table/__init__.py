"""How each loss is called in other libraries.

A loss without an entry is compared with its own textbook formula only.
"""

from fastloss._peer_table import binary, classes, core, margins, regression, rows
from fastloss._peer_table.record import Peers

PEERS: dict[str, Peers] = {
    **core.PEERS,
    **regression.PEERS,
    **binary.PEERS,
    **classes.PEERS,
    **rows.PEERS,
    **margins.PEERS,
}
"""By the name of the loss; an entry for dense targets has ", dense" behind it."""
