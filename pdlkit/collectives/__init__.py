"""Collectives hop by hop: each a table of who sends which chunk to whom, when.

collectives.ring_all_reduce(x, "data")  # inside shard_map: `ppermute` only
hops = collectives.ring_all_reduce_hops(4)  # the table it follows
pdl.show(collectives.play(hops, values))  # the same on one's own numbers
"""

from pdlkit.collectives.exchange import all_to_all, all_to_all_hops, ring_shift, ring_shift_hops
from pdlkit.collectives.halo import halo_exchange, halo_exchange_hops
from pdlkit.collectives.halving import (
    halving_doubling_all_reduce,
    halving_doubling_all_reduce_hops,
)
from pdlkit.collectives.hierarchical import hierarchical_all_reduce, hierarchical_all_reduce_hops
from pdlkit.collectives.hops import Hop, Hops
from pdlkit.collectives.playing import Played, play
from pdlkit.collectives.ring import (
    bidirectional_ring_all_reduce,
    bidirectional_ring_all_reduce_hops,
    ring_all_gather,
    ring_all_gather_hops,
    ring_all_reduce,
    ring_all_reduce_hops,
    ring_reduce_scatter,
    ring_reduce_scatter_hops,
)
from pdlkit.collectives.running import run
from pdlkit.collectives.tree import (
    tree_all_reduce,
    tree_all_reduce_hops,
    tree_broadcast,
    tree_broadcast_hops,
)

__all__ = [
    "Hop",
    "Hops",
    "Played",
    "all_to_all",
    "all_to_all_hops",
    "bidirectional_ring_all_reduce",
    "bidirectional_ring_all_reduce_hops",
    "halo_exchange",
    "halo_exchange_hops",
    "halving_doubling_all_reduce",
    "halving_doubling_all_reduce_hops",
    "hierarchical_all_reduce",
    "hierarchical_all_reduce_hops",
    "play",
    "ring_all_gather",
    "ring_all_gather_hops",
    "ring_all_reduce",
    "ring_all_reduce_hops",
    "ring_reduce_scatter",
    "ring_reduce_scatter_hops",
    "ring_shift",
    "ring_shift_hops",
    "run",
    "tree_all_reduce",
    "tree_all_reduce_hops",
    "tree_broadcast",
    "tree_broadcast_hops",
]
