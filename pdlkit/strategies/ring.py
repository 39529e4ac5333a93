"""Attention round a ring of devices, each with a piece of the sequence."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.collectives import ring_shift
from pdlkit.compat import vary, varying_axes
from pdlkit.strategies.attention import Given, Seen, go_back, see


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def ring_attention(q, k, v, axis: str, causal: bool, zigzag: bool):
    """[batch, heads, seq / n, size] each -> the same, over the whole sequence.

    Keys and values go round the ring, and a device sees one piece of them at a time;
    pieces of which no query may see a key are passed over. Going back they go round
    again, and take their gradients along, which end where they belong.

    Source: Liu, Zaharia and Abbeel 2023, "Ring Attention", https://arxiv.org/abs/2310.01889
    """
    return _forward(q, k, v, axis, causal, zigzag)[0]


def pieces_of(device, devices: int, zigzag: bool):
    """Return which pieces of the sequence a device holds.

    One of n; or by zigzag two of 2n, one from each end, so that the device with the
    first queries, which see little, also has the last, which see nearly all.
    """
    return (device, 2 * devices - 1 - device) if zigzag else (device,)


class _Ring(NamedTuple):
    """One device's place on the ring, and which pieces may see which."""

    axis: str
    causal: bool
    zigzag: bool

    @property
    def devices(self) -> int:
        return lax.axis_size(self.axis)

    def cut(self, x) -> list:
        """[batch, heads, seq / n, ...] -> one array for each piece."""
        return jnp.split(x, 2 if self.zigzag else 1, axis=2)

    def round(self, look: Callable, state: Any, travelling: Any):
        """Return what has been seen of all pieces, and what travelled, one hop from home.

        Args:
            look: state, what is here now, the pieces it is of -> both, changed.
            state: stays on this device.
            travelling: begins here, of this device's own pieces.
        """
        here = lax.axis_index(self.axis)

        def turn(both, step):
            state, travelling = both
            travelling = jax.tree.map(self.pass_on, travelling)
            owner = (here - step) % self.devices
            return look(state, travelling, pieces_of(owner, self.devices, self.zigzag)), None

        both = look(state, travelling, pieces_of(here, self.devices, self.zigzag))
        return lax.scan(turn, both, jnp.arange(1, self.devices))[0]

    def pass_on(self, x):
        """Return what the device before has here."""
        return ring_shift(x, self.axis)

    def pairs(self, theirs, update: Callable, state):
        """Return the state after each pair of own pieces and those that are here.

        Args:
            theirs: which pieces are here.
            update: state, place of a query piece, of a key piece, allowed -> state.
            state: what to begin with.
        """
        mine = pieces_of(lax.axis_index(self.axis), self.devices, self.zigzag)
        for i, query in enumerate(mine):
            for j, key in enumerate(theirs):
                one = partial(update, i=i, j=j)
                if self.causal:
                    allowed = partial(_allowed, query, key)
                    state = lax.cond(key <= query, partial(one, allowed=allowed), _same, state)
                else:
                    state = one(state, allowed=_all)
        return state


def _forward(q, k, v, axis, causal, zigzag):
    ring = _Ring(axis, causal, zigzag)
    queries = ring.cut(q)

    def look(seen, kv, theirs):
        keys, values = map(ring.cut, kv)

        def update(seen, i, j, allowed):
            return _replaced(seen, i, see(seen[i], queries[i], keys[j], values[j], allowed))

        return ring.pairs(theirs, update, seen), kv

    seen, _ = ring.round(look, [_nothing(query) for query in queries], (k, v))
    out = jnp.concatenate([each.mixed / each.total[..., None] for each in seen], 2)
    log_total = jnp.concatenate([each.top + jnp.log(each.total) for each in seen], 2)
    return out.astype(q.dtype), (q, k, v, out, log_total)


def _backward(axis, causal, zigzag, kept, slope):
    q, k, v, out, log_total = kept
    ring = _Ring(axis, causal, zigzag)
    given = map(Given, *map(ring.cut, (log_total, slope, (out * slope).sum(-1))))
    queries, given = ring.cut(q), list(given)

    def look(of_q, travelling, theirs):
        k, v, of_k, of_v = travelling
        keys, values = map(ring.cut, (k, v))

        def update(grads, i, j, allowed):
            of_q, of_k, of_v = grads
            more = go_back(given[i], queries[i], keys[j], values[j], allowed)
            return _added(of_q, i, more[0]), _added(of_k, j, more[1]), _added(of_v, j, more[2])

        of_q, of_k, of_v = ring.pairs(theirs, update, (of_q, ring.cut(of_k), ring.cut(of_v)))
        return of_q, (k, v, *(jnp.concatenate(each, 2) for each in (of_k, of_v)))

    zeros = [jnp.zeros_like(x, jnp.float32) for x in (q, k, v)]
    of_q, travelled = ring.round(look, ring.cut(zeros[0]), (k, v, *zeros[1:]))
    home = map(ring.pass_on, travelled[2:])
    return tuple(x.astype(q.dtype) for x in (jnp.concatenate(of_q, 2), *home))


ring_attention.defvjp(_forward, _backward)


def _nothing(query) -> Seen:
    row, axes = query.shape[:-1], tuple(varying_axes(query))
    parts = jnp.full(row, -jnp.inf), jnp.zeros(row), jnp.zeros(query.shape)
    return Seen(*(vary(part, axes) for part in parts))


def _allowed(query, key, length: int):
    """Return [query, key], which keys of a piece the queries of another may see."""
    return (key < query) | jnp.tri(length, dtype=bool)


def _all(length: int):
    return jnp.ones((length, length), bool)


def _same(state):
    return state


def _replaced(parts: list, i: int, part) -> list:
    return [*parts[:i], part, *parts[i + 1 :]]


def _added(parts: list, i: int, part) -> list:
    return _replaced(parts, i, parts[i] + part)
