"""A plan carried out: one loop over ticks, the same program on every device."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.compat import vary, varying_axes, zeros_like_type
from pdlkit.schedules.tasks import KINDS
from pdlkit.strategies.pipeline.plan import Now, Plan
from pdlkit.strategies.pipeline.splitting import Split, as_cotangent, as_message, split


class Network(NamedTuple):
    """A model as a pipeline runs it, on micro-batches counted from 0."""

    first: Callable  # params, microbatch -> x
    stage: Callable  # [params of a block, ...], x -> x
    last: Callable  # params, x, microbatch -> its part of the loss, what it says of itself


class Carry(NamedTuple):
    """What a device hands from one tick to the next."""

    mail: Any  # like x, [slots, ...]: messages that wait to be read
    outgoing: Any  # like x: what it sends when the tick is over
    saved: list  # [slots, ...] each
    kept: list  # [slots, ...] each
    grads: Any  # like the params
    heard: Any  # [micro-batches, ...]: what those say that it has seen to the end


def run(plan: Plan, network: Network, params, *, axis: str):
    """Return this device's part of the gradients, and what it heard.

    Only inside `shard_map`. What was heard is [micro-batches, ...], zeros on all
    devices but the last virtual stage's.

    Args:
        plan: what is done when.
        network: what it is done with.
        params: `blocks`, this device's rows, chunk after chunk; `first` and `last`.
        axis: the mesh axis of the stages.
    """
    ticks, stages = plan.now.kind.shape
    turns = {kind: int((plan.now.kind == i).sum(0).max()) for i, kind in enumerate(KINDS)}
    device, carry = _prepared(plan, network, params)
    columns = jax.tree.map(lambda column: jnp.asarray(column)[:, lax.axis_index(axis)], plan.now)

    sends = plan.sends
    times = [int(ticks.sum()) for ticks in sends]

    def on(hop, message):
        return lax.ppermute(message, axis, [(i, (i + hop) % stages) for i in range(stages)])

    def tick(carry: Carry, turn):
        now, sending = turn
        for kind in (kind for kind in KINDS if turns[kind]):
            op, here = partial(getattr(device, kind), now), now.kind == KINDS.index(kind)
            carry = when(here, op, carry, turns=turns[kind], of=ticks)
        # Outside of the ops, so that all devices send, whatever else they do.
        for i, (hop, slot) in enumerate(zip(plan.hops, now.receive, strict=True)):
            send, message = partial(on, hop), carry.outgoing
            if hop and times[i] == ticks:
                message = send(message)
            elif hop:
                message = when(sending[i], send, message, turns=times[i], of=ticks)
            carry = carry._replace(mail=put(carry.mail, slot, message))
        return carry, None

    carry, _ = lax.scan(tick, carry, (columns, jax.tree.map(jnp.asarray, sends)))
    return carry.grads, carry.heard


class _Device(NamedTuple):
    """The ops of one device: now, carry -> carry, each named as in the table."""

    network: Network
    params: Any
    parts: Split
    chunks: int
    depth: int  # blocks of a chunk

    def forward(self, now: Now, carry: Carry) -> Carry:
        def enter(mail):
            return put(mail, now.mail, self.network.first(self.params["first"], now.microbatch))

        mail = when(now.first == 1, enter, carry.mail, of=self.chunks)
        y, saved = self.parts.forward(self._blocks(now), get(mail, now.mail))

        def leave(carry: Carry) -> Carry:
            end = jax.grad(self.network.last, (0, 1), has_aux=True, allow_int=True)
            (found, gradient), heard = end(self.params["last"], y, now.microbatch)
            return carry._replace(
                mail=put(carry.mail, now.seed, as_message(gradient, y)),
                grads=carry.grads | {"last": add(carry.grads["last"], found)},
                heard=put(carry.heard, now.microbatch, heard),
            )

        saved = put(carry.saved, now.saved, saved)
        carry = carry._replace(mail=mail, outgoing=y, saved=saved)
        return when(now.last == 1, leave, carry, of=self.chunks)

    def backward(self, now: Now, carry: Carry) -> Carry:
        carry, kept = self._input_gradient(now, carry)
        return carry._replace(kept=put(carry.kept, now.kept, kept))

    def weight(self, now: Now, carry: Carry) -> Carry:
        return self._weight_gradient(now, carry, get(carry.kept, now.kept))

    def both(self, now: Now, carry: Carry) -> Carry:
        return self._weight_gradient(now, *self._input_gradient(now, carry))

    def _input_gradient(self, now: Now, carry: Carry) -> tuple[Carry, list]:
        saved, gradient = get(carry.saved, now.saved), get(carry.mail, now.mail)
        gradient, kept = self.parts.backward(self._blocks(now), saved, gradient)

        def enter(grads):
            begin = lambda params: self.network.first(params, now.microbatch)  # noqa: E731
            _, pull = jax.vjp(begin, self.params["first"])
            return grads | {"first": add(grads["first"], *pull(as_cotangent(gradient)))}

        grads = when(now.first == 1, enter, carry.grads, of=self.chunks)
        return carry._replace(outgoing=gradient, grads=grads), kept

    def _weight_gradient(self, now: Now, carry: Carry, kept: list) -> Carry:
        found = self.parts.weight(self._blocks(now), get(carry.saved, now.saved), kept)
        rows = jax.tree.map(lambda *each: jnp.stack(each), *found)  # at once: XLA copies less

        def added(total, more):
            part = lax.dynamic_slice_in_dim(total, self._row(now), self.depth)
            return lax.dynamic_update_slice_in_dim(total, part + more, self._row(now), 0)

        blocks = jax.tree.map(added, carry.grads["blocks"], rows)
        return carry._replace(grads=carry.grads | {"blocks": blocks})

    def _blocks(self, now: Now) -> list:
        return [get(self.params["blocks"], self._row(now) + i) for i in range(self.depth)]

    def _row(self, now: Now):
        """Return where the chunk begins; a plain number where there is but one."""
        return now.chunk * self.depth if self.chunks > 1 else 0


def _prepared(plan: Plan, network: Network, params) -> tuple[_Device, Carry]:
    """Return the ops, and empty buffers for them."""
    chunks = 1 + int(plan.now.chunk.max())
    depth = len(jax.tree.leaves(params["blocks"])[0]) // chunks
    blocks = [get(params["blocks"], row) for row in range(depth)]
    network, x = _steady(network, params["first"], blocks)
    parts = split(network.stage, blocks, x)
    _, heard = zeros_of(network.last, params["last"], x, 0)
    carry = Carry(
        mail=slots(plan.slots.mail + 1, x),
        outgoing=x,
        saved=slots(plan.slots.saved, [*map(zeros_like_type, parts.saved)]),
        kept=slots(plan.slots.kept, [*map(zeros_like_type, parts.kept)]),
        grads=zeros_of(lambda: params),
        heard=slots(1 + int(plan.now.microbatch.max()), heard),
    )
    return _Device(network, params, parts, chunks, depth), carry


def _steady(network: Network, of_first, blocks: list) -> tuple[Network, Any]:
    """Return the network with x of one type everywhere, and zeros of that type.

    A stage may give what differs along more mesh axes than what it was given.
    """
    entering = zeros_of(network.first, of_first, 0)
    x = _like(entering, zeros_of(network.stage, blocks, entering))
    first = lambda params, microbatch: _like(network.first(params, microbatch), x)  # noqa: E731
    stage = lambda blocks, entering: _like(network.stage(blocks, entering), x)  # noqa: E731
    return network._replace(first=first, stage=stage), x


def _like(tree, other):
    return jax.tree.map(lambda x, y: vary(x, tuple(varying_axes(y))), tree, other)


def when(predicate, update: Callable, state, *, turns: int = 1, of: int):
    """Return `update(state)` if the predicate holds, otherwise the state.

    A loop of one turn or none. It updates buffers where they are; `lax.cond` copies
    all that passes through it. How often it turns depends on data, so its name says:
    on the device that turns most, `turns` times where it is reached `of` times.
    """

    def once(turn):
        predicate, state = turn
        # XLA would move what only reads the state to before the loop, and do it always. One
        # barrier an array, for what comes out of one varies along all that goes in does.
        after = lambda x: lax.optimization_barrier((predicate, x))[1]  # noqa: E731
        return ~predicate, update(jax.tree.map(after, state))

    with jax.named_scope(f"{turns} of {of} turns"):
        return lax.while_loop(lambda turn: turn[0], once, (predicate, state))[1]


def zeros_of(function: Callable, *arguments):
    """Return zeros of the types that a function gives; it is traced, and not run."""
    trace, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return jax.tree.unflatten(jax.tree.structure(shapes), map(zeros_like_type, trace.out_avals))


def slots(count: int, tree):
    """[...] -> [count, ...], of each array as many."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree)


def get(buffer, slot):
    """[slots, ...] -> [...], what stands in one slot."""
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, slot, keepdims=False), buffer)


def put(buffer, slot, new):
    """Return the buffer with `new`, [...], in one slot."""
    return jax.tree.map(lambda x, y: lax.dynamic_update_index_in_dim(x, y, slot, 0), buffer, new)


def add(tree, other):
    """Return the sum of two trees, array by array."""
    return jax.tree.map(jnp.add, tree, other)
