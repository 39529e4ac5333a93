"""What one device holds in training, part by part."""

from typing import NamedTuple

import numpy as np

from pdlkit.prediction.language_models import LLM, RECOMPUTE
from pdlkit.prediction.plans import Plans


class States(NamedTuple):
    """Bytes that one parameter takes."""

    weights: float
    gradients: float
    optimizer: float


MIXED = States(2, 2, 12)  # ZeRO's count: half precision, and Adam with its own weights in float32
MEGATRON = States(2, 4, 12)  # gradients are summed over micro-batches in float32
FLOAT32 = States(4, 4, 8)  # no half precision
LEAN = States(2, 0, 8)  # the scaling book's: gradients used up as they come


def states(parameters, ways=1, *, zero: int = 0, each: States = MIXED):
    """Return the bytes of weights, gradients and optimizer's state on one device.

    Args:
        parameters: of this device's share of the model.
        ways: devices that share the states.
        zero: what they share: 1 the optimizer's state, 2 gradients too, 3 weights too.
        each: bytes of one parameter.

    Source: Rajbhandari et al. 2020, section 5, https://arxiv.org/abs/1910.02054
    """
    shared = [1.0 if zero < stage else 1.0 / ways for stage in (3, 2, 1)]
    return parameters * sum(size * share for size, share in zip(each, shared, strict=True))


def activations(llm: LLM, tokens, plans: Plans, *, recompute=None, flash=None):
    """Return the bytes of one layer's activations for one micro-batch on one device.

    With two bytes a number and one for each entry of a dropout mask, where there is one.

    Args:
        llm: a model.
        tokens: [plans], of the micro-batch on this device.
        plans: whose tensor, sequence_parallel, recompute and flash count.
        recompute: index into RECOMPUTE instead of that of the plans.
        flash: bool, likewise.

    Source: Korthikanti et al. 2022, Table 2, https://arxiv.org/abs/2205.05198, with
    grouped keys, gated MLPs and experts counted likewise
    """
    recompute = plans.recompute if recompute is None else np.asarray(recompute)
    flash = plans.flash if flash is None else np.asarray(flash)
    whole = np.where(plans.sequence_parallel, plans.tensor, 1)
    # Inputs of norms, of attention and MLP, and two masks; side by side they share the first
    # two, and what has no biases, as LLaMA and its like, has no dropout either.
    kept_of = 2 + 2 if llm.parallel else 4 + 2 + 2 * llm.top_k
    outside = (kept_of + 2 * bool(llm.biases)) * llm.hidden
    inside = 4 * llm.attention_width + (6 if llm.gated else 4) * llm.ffn * llm.top_k
    keys = 4 * llm.kv_width / np.minimum(plans.tensor, llm.kv_heads)
    scores = 5 * llm.heads * llm.sequence
    kept = tokens * (outside / whole + inside / plans.tensor + keys)
    kept = kept + tokens * scores / plans.tensor * (~flash & (recompute == RECOMPUTE.index("none")))
    inputs = tokens * 2 * llm.hidden / whole
    return np.where(recompute == RECOMPUTE.index("full"), inputs, kept)


def in_flight(plans: Plans, microbatches):
    """Return of how many micro-batches the first stage holds its layers' activations.

    Of 1F1B as many as there are stages; interleaved the share (p - 1) / (p v) more.

    Source: Korthikanti et al. 2022, section 4.2.3, https://arxiv.org/abs/2205.05198
    """
    more = 1 + (plans.pipeline - 1) / (plans.pipeline * plans.virtual_stages)
    held = plans.pipeline * np.where(plans.virtual_stages > 1, more, 1.0)
    return np.minimum(held, microbatches)


def parts(llm: LLM, plans: Plans, batch: int) -> dict[str, np.ndarray]:
    """Return [plans] of bytes on the device that holds most, by what they are.

    That is one of the first pipeline stage, or one of the last where logits outweigh
    the micro-batches in flight.
    """
    tokens = plans.micro_batch * llm.sequence / plans.context
    layers = plans.depth(llm)
    microbatches = batch // (plans.data * plans.micro_batch)
    layer = activations(llm, tokens, plans)
    # The second stage is the fullest where the first has a layer fewer: a micro-batch less.
    flying = in_flight(plans, microbatches) - plans.lighter(llm)
    held = layers * layer * flying
    # Of its chunks but the last the last stage has run a round ahead.
    ahead = ((plans.virtual_stages - 1) * plans.pipeline + 1) / plans.virtual_stages
    last = layers * layer * np.minimum(ahead, microbatches)
    # Its own activations come back for the time of its backward pass.
    again = activations(llm, tokens, plans, recompute=0) - layer
    # In half precision, and in float32 with their gradient; gone when a layer is done again.
    logits = tokens * llm.vocabulary / plans.tensor * (2 + 4 + 4)
    at_last = (plans.pipeline == 1) | (last + np.maximum(again, logits) > held + again)
    parameters = device_parameters(llm, plans)
    each = {}
    for stage, name in ((3, "weights"), (2, "gradients"), (1, "optimizer")):
        shared = parameters.shares(plans, stage)
        each[name] = getattr(MEGATRON, name) * shared
    gathered = 2 * MEGATRON.weights * (parameters.total - parameters.shares(plans, 3)) / layers
    return {
        **each,
        "activations": np.where(at_last & (plans.pipeline > 1), last, held),
        "temporaries": np.where(at_last, np.maximum(again, logits), again),
        "gathered": np.maximum(gathered, 0.0),  # this layer's weights and the next one's
    }


class Parameters(NamedTuple):
    """Parameters of one device, [plans] each."""

    dense: np.ndarray
    experts: np.ndarray  # which lie on fewer of the data ways

    @property
    def total(self) -> np.ndarray:
        """All of them."""
        return self.dense + self.experts

    def shares(self, plans: Plans, stage: int) -> np.ndarray:
        """Return how many a device keeps the states of that ZeRO cuts from a stage on."""
        cut = plans.zero >= stage
        return self.dense / np.where(cut, plans.shard, 1) + self.experts / np.where(
            cut, expert_shard(plans), 1
        )


def expert_shard(plans: Plans) -> np.ndarray:
    """Return how many of the devices that share states have the same experts."""
    return np.maximum(1, plans.shard // plans.expert)


def device_parameters(llm: LLM, plans: Plans) -> Parameters:
    """Return the parameters of one device of the stage with most, before ZeRO."""
    layers = plans.depth(llm)
    experts = llm.experts * llm.expert_parameters if llm.experts > 1 else 0
    layer = llm.attention_parameters + llm.mlp_parameters - experts
    tables = llm.embedding_parameters + np.where(plans.pipeline == 1, llm.logit_parameters, 0)
    # The first stage has the tables in place of a layer, where it has one fewer.
    tables = np.where(plans.lighter(llm), np.maximum(0, tables - layer), tables)
    return Parameters(
        (layers * layer + tables) / plans.tensor, layers * experts / plans.expert / plans.tensor
    )
