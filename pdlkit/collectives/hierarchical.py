"""Two levels: fast links inside each group of devices, slow ones across."""

from jax import lax

from pdlkit.collectives.hops import Hop, Hops, after, whole
from pdlkit.collectives.ring import (
    ring_all_gather_hops,
    ring_all_reduce_hops,
    ring_reduce_scatter_hops,
)
from pdlkit.collectives.running import run_flat


def hierarchical_all_reduce_hops(inside: int, across: int) -> Hops:
    """Return the hops of `across` groups of `inside` devices, group by group.

    Each group reduce-scatters; the devices that then hold the same part all-reduce
    it, a ring through all groups for each part; each group all-gathers.
    """

    def part(chunk: int) -> range:
        return range(across * chunk, across * (chunk + 1))

    def in_each_group(hops: Hops) -> list[Hop]:
        return [
            hop._replace(
                source=inside * group + hop.source, target=inside * group + hop.target, chunk=chunk
            )
            for group in range(across)
            for hop in hops.hops
            for chunk in part(hop.chunk)
        ]

    through_the_groups = [
        hop._replace(
            source=inside * hop.source + member,
            target=inside * hop.target + member,
            chunk=part(member)[hop.chunk],
        )
        for member in range(inside)
        for hop in ring_all_reduce_hops(across).hops
    ]
    hops = after(
        in_each_group(ring_reduce_scatter_hops(inside)),
        through_the_groups,
        in_each_group(ring_all_gather_hops(inside)),
    )
    every = whole(inside * across, inside * across)
    return Hops("hierarchical all-reduce", inside * across, every, every, hops)


def hierarchical_all_reduce(x, inside: str, across: str):
    """Return the sum over two mesh axes, as `lax.psum(x, (across, inside))`.

    Of g devices inside, each sends 2 (g - 1) / g of the array to its own group, and
    across only what all-reducing 1 / g of it takes; `x` has any shape.

    Source: Mikami et al. 2018, "Massively Distributed SGD", https://arxiv.org/abs/1811.05233
    """
    hops = hierarchical_all_reduce_hops(lax.axis_size(inside), lax.axis_size(across))
    return run_flat(hops, x, (across, inside))
