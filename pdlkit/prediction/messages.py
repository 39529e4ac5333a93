"""What a plan sends: seconds of its messages, where nothing hides them."""

from typing import NamedTuple

import numpy as np

from pdlkit.prediction.clusters import Cluster, Costs
from pdlkit.prediction.language_models import LLM
from pdlkit.prediction.memory import MEGATRON, Parameters, expert_shard
from pdlkit.prediction.plans import Plans


class Messages(NamedTuple):
    """Seconds on the links, [plans] each, for one micro-batch unless it says more."""

    tensor: np.ndarray  # one layer's forward pass; the backward one sends as much
    context: np.ndarray  # likewise; backwards twice as much
    expert: np.ndarray  # likewise, as much
    hop: np.ndarray  # from one pipeline stage to the next
    gather: np.ndarray  # of one layer's weights, where ZeRO has cut them
    scatter: np.ndarray  # of one layer's gradients, where they are cut at each micro-batch
    reduce: np.ndarray  # of all gradients and weights of the device, once a step
    copies: np.ndarray  # among copies of the shards, once a step, when all gradients are there


def messages(llm: LLM, plans: Plans, cluster: Cluster, parameters: Parameters) -> Messages:
    """Return how long each kind of message takes.

    Args:
        llm: a model.
        plans: how it is cut.
        cluster: the devices.
        parameters: of one device, before ZeRO.
    """
    p = plans
    tokens = p.micro_batch * llm.sequence / p.context
    one = np.ones_like(p.data)
    inner = p.tensor * p.context
    activations = 2 * tokens * llm.hidden
    # A sum, or a gather and a scatter: round a ring both send the same.
    sums = 1 if llm.parallel else 2
    tensor = sums * _each(cluster, p.tensor, one, activations, Costs.all_reduce)
    keys = 2 * 2 * tokens * llm.kv_width / np.minimum(p.tensor, llm.kv_heads)
    context = (p.context - 1) * _each(cluster, p.context, p.tensor, keys, Costs.send)
    sent = activations * llm.top_k / np.where(p.sequence_parallel, p.tensor, 1)
    expert = 2 * _each(cluster, p.expert, inner, sent, Costs.all_to_all)
    stage = inner * p.data
    hop = _each(cluster, p.pipeline, stage, activations / p.tensor, Costs.send)

    states = _states(cluster, p, parameters.dense, p.data, p.shard, inner)
    if llm.experts > 1:  # the same experts lie on fewer of the data ways, and further apart
        own = p.data // p.expert, expert_shard(p), inner * p.expert
        more = _states(cluster, p, parameters.experts, *own)
        states = [a + b for a, b in zip(states, more, strict=True)]
    gather, scatter, reduce, copies = states
    layers = p.depth(llm)
    return Messages(
        tensor, context, expert * (llm.experts > 1), hop, gather / layers, scatter / layers,
        reduce, copies,
    )  # fmt: skip


def _states(cluster: Cluster, p: Plans, parameters, ways, shard, stride) -> list[np.ndarray]:
    """Return the seconds of what ZeRO sends of some parameters.

    Of all their weights' gathers and of all their gradients' scatters, where these are
    needed at each micro-batch; of what goes once a step; and among copies of the shards.
    """
    weights, gradients = MEGATRON.weights * parameters, MEGATRON.gradients * parameters
    whole = _each(cluster, ways, stride, gradients, Costs.all_reduce)
    gather = _each(cluster, shard, stride, weights, Costs.all_gather)
    scatter = _each(cluster, shard, stride, gradients, Costs.reduce_scatter)
    copies = _each(cluster, ways // shard, stride * shard, gradients / shard, Costs.all_reduce)
    none = np.zeros(len(whole))
    return [
        np.choose(p.zero, [none, none, none, gather]),
        np.choose(p.zero, [none, none, scatter, scatter]),
        np.choose(p.zero, [whole, scatter + gather, gather, none]),
        np.where(p.zero > 0, copies, 0.0),
    ]


def _each(cluster: Cluster, size, stride, count, cost) -> np.ndarray:
    """Return [plans] of seconds: of each group that occurs, the cost of its messages."""
    count = np.broadcast_to(np.asarray(count, float), size.shape)
    seconds = np.zeros(size.shape)
    groups, which = np.unique(size * (stride.max() + 1) + stride, return_inverse=True)
    for i, (ways, apart) in enumerate(zip(*divmod(groups, stride.max() + 1), strict=True)):
        rows = which == i
        seconds[rows] = cost(cluster.costs(int(ways), int(apart)), count[rows])
    return seconds
