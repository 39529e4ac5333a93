"""Fully sharded data parallelism: no device ever holds the whole model."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from pdlkit.strategies.sharded import ZeRO


@dataclasses.dataclass(frozen=True)
class FullySharded(ZeRO):
    """Stage 3, block by block: a device never holds more than one block whole.

    The first and last layers are gathered once, for the whole step. With `remat`, a
    block is not only gathered again going back but computed again as well, so that
    nothing of it but its input is kept.

    Moves:  two all-gathers of every block's weights, one of the first and last layers';
            a reduce-scatter of all gradients.
    Keeps:  1/n of weights and optimizer state, and one block's weights while it runs.
    Source: Zhao et al. 2023, "PyTorch FSDP", https://arxiv.org/abs/2304.11277
    """

    stage: int = 3
    remat: bool = False

    def layers(self, mesh):
        def block(apply, axes):
            def on_parts(params, x):
                whole = lambda node: node.whole() if _is_later(node) else node  # noqa: E731
                return apply(jax.tree.map(whole, params, is_leaf=_is_later), x)

            return jax.checkpoint(on_parts, policy=None if self.remat else self.forget)

        return {"block": block}

    def forgetting(self, loss, ways, fetch):
        # Each block forgets for itself; a second checkpoint round them all would undo that.
        return lambda params, *rest: loss(self.fetched(params, ways, fetch), *rest)

    def fetched(self, params, ways, fetch):
        if not _has_blocks(params):
            return super().fetched(params, ways, fetch)
        later = partial(_Later, fetch)
        edges = {
            name: super(FullySharded, self).fetched(params[name], ways[name], fetch)
            for name in params
            if name != "blocks"
        }
        return {**edges, "blocks": jax.tree.map(later, params["blocks"], ways["blocks"])}

    def dimensions(self, specs):
        found = super().dimensions(specs)
        if not _has_blocks(found):
            return found
        # One dimension less where it is used: a scan has taken the layers apart.
        return {**found, "blocks": jax.tree.map(lambda i: max(i - 1, -1), found["blocks"])}

    def turns(self, shapes):
        once = super().turns(shapes)
        if not _has_blocks(shapes):
            return once
        return {**once, "blocks": jax.tree.map(lambda shape: shape.shape[0], shapes["blocks"])}


@partial(jax.tree_util.register_dataclass, data_fields=["part"], meta_fields=["fetch", "way"])
@dataclasses.dataclass(frozen=True)
class _Later:
    """A part of a weight, until the block that uses it fetches the whole."""

    fetch: Callable
    part: Any
    way: int

    def whole(self):
        return self.fetch(self.part, self.way)


def _has_blocks(params) -> bool:
    return isinstance(params, dict) and "blocks" in params


def _is_later(node) -> bool:
    return isinstance(node, _Later)
