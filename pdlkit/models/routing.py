"""Which expert each token goes to, and the way there and back.

`experts` is four steps in a row: `route`, `dispatch`, `run_experts`, `combine`.
Expert parallelism puts another third step into the same `through_experts`: it
sends what was dispatched to the device of each expert, and the answers back.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.errors import lesson
from pdlkit.models.floats import at_least_float32


class Routing(NamedTuple):
    """What was routed: figures to note, and to build the balance loss from."""

    load: Any  # [expert], how many tokens chose it, dropped ones too
    share: Any  # [expert], sum over tokens of the probability that the gate gives it
    dropped: Any  # [], how many choices found their expert full


class Seats(NamedTuple):
    """Where each token's choices sit; a slot past the last one is no seat."""

    expert: Any  # [token, choice]
    slot: Any  # [token, choice], counted by expert
    weight: Any  # [token, choice], what the expert's answer counts for


def experts(x, gate, up, down, *, top_k=1, capacity=None):
    """[..., embed] -> same, `Routing`: each token through its `top_k` best experts.

    The answers are weighted by the gate's probabilities, which are made to sum
    to 1 over a token's choices if there are several of them. An expert has
    `slot_count` slots: earlier choices come first, then earlier tokens, and
    what finds no seat adds nothing.

    Args:
        x: tokens in any leading dimensions.
        gate: [embed, expert].
        up: [expert, embed, mlp].
        down: [expert, mlp, embed].
        top_k: experts a token.
        capacity: slots of an expert, as a multiple of its even share; None: as
            many as are chosen, so that nothing is dropped.

    Source: Fedus et al. 2021, "Switch Transformers", https://arxiv.org/abs/2101.03961
    for one expert a token; Lepikhin et al. 2020, "GShard",
    https://arxiv.org/abs/2006.16668 for several.
    """
    answer = partial(run_experts, up=up, down=down)
    return through_experts(x, gate, answer, top_k=top_k, capacity=capacity)


def through_experts(x, gate, answer, *, top_k=1, capacity=None):
    """[..., embed] -> same, `Routing`: what each token is answered.

    `answer` is what the experts make of their slots: [expert, slot, embed] -> same.
    """
    tokens = x.reshape(-1, x.shape[-1])
    slots = slot_count(len(tokens), gate.shape[-1], top_k=top_k, capacity=capacity)
    seats, routing = route(tokens, gate, top_k=top_k, slots=slots)
    seated = dispatch(tokens, seats, experts=gate.shape[-1], slots=slots)
    y = combine(answer(seated), seats)
    return y.reshape(x.shape).astype(x.dtype), routing


def slot_count(tokens: int, experts: int, *, top_k: int, capacity: float | None) -> int:
    """Return how many tokens an expert has room for: `capacity` times its even share."""
    if capacity is None:
        return tokens  # one expert may be chosen by all, and by each only once
    return min(tokens, math.ceil(capacity * top_k * tokens / experts))


def route(x, gate, *, top_k: int, slots: int):
    """[token, embed], [embed, expert] -> where each token sits, and the figures."""
    _check_choices(top_k, gate.shape[-1])
    # Whatever the tokens are in, for the last digit says where a token goes.
    share = jax.nn.softmax(at_least_float32(x) @ at_least_float32(gate))  # [token, expert]
    weight, expert = lax.top_k(share, top_k)  # [token, choice]
    if top_k > 1:
        weight = weight / weight.sum(-1, keepdims=True)
    queue = expert.T.reshape(-1)  # [choice * token]: all first choices, then all second ones
    asked = jax.nn.one_hot(queue, gate.shape[-1], dtype=jnp.int32)
    before = jnp.cumsum(asked, 0) - asked  # [choice * token, expert]
    slot = (before * asked).sum(-1).reshape(expert.T.shape).T  # [token, choice]
    load, dropped = asked.sum(0).astype(share.dtype), (slot >= slots).sum().astype(share.dtype)
    return Seats(expert, slot, weight), Routing(load, share.sum(0), dropped)


def _check_choices(top_k: int, experts: int) -> None:
    if not 1 <= top_k <= experts:
        raise ValueError(
            lesson(
                f"a token cannot go through top_k={top_k} of {experts} experts.",
                why="it chooses different ones, and at least one.",
                fix=f"top_k from 1 to {experts}, or more experts.",
            )
        )


def dispatch(x, seats: Seats, *, experts: int, slots: int):
    """[token, embed] -> [expert, slot, embed]: tokens in their seats, else zeros."""
    empty = jnp.zeros((experts, slots, x.shape[-1]), x.dtype)
    # Added, for every seat is taken once only, and a sum has the simplest gradient.
    return empty.at[seats.expert, seats.slot].add(x[:, None], mode="drop")


def run_experts(x, up, down):
    """[expert, slot, embed] -> same: each expert's own two layers, ReLU between them."""
    hidden = jax.nn.relu(jnp.einsum("esd,edf->esf", x, up))
    return jnp.einsum("esf,efd->esd", hidden, down)


def combine(y, seats: Seats):
    """[expert, slot, embed] -> [token, embed]: each token's answers, weighted."""
    answers = y.at[seats.expert, seats.slot].get(mode="fill", fill_value=0)
    return jnp.einsum("tkd,tk->td", answers, seats.weight)
