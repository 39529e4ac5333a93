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

    With two bytes a number and one for each entry of a dropout mask.

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
    # Inputs of both norms, of attention and MLP, and two masks.
    outside = (4 + 2 + 2 * llm.top_k + 2) * llm.hidden
    inside = 4 * llm.attention_width + 4 * llm.kv_width
    inside += (6 if llm.gated else 4) * llm.ffn * llm.top_k
    scores = 5 * llm.heads * llm.sequence
    kept = tokens * (outside / whole + inside / plans.tensor)
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
    layers = llm.layers / plans.pipeline
    layer = activations(llm, tokens, plans)
    held = layers * layer * in_flight(plans, batch // (plans.data * plans.micro_batch))
    last = layers * layer
    # Its own activations come back for the time of its backward pass.
    again = activations(llm, tokens, plans, recompute=0) - layer
    # Logits in half precision, and in float32 with their gradient.
    logits = tokens * llm.vocabulary / plans.tensor * (2 + 4 + 4)
    first_is_last = plans.pipeline == 1
    at_last = first_is_last | (last + logits > held)
    parameters = device_parameters(llm, plans)
    each = {name: np.zeros(len(plans.data)) for name in MEGATRON._fields}
    for stage, name in ((3, "weights"), (2, "gradients"), (1, "optimizer")):
        size = getattr(MEGATRON, name)
        each[name] = parameters * size / np.where(plans.zero >= stage, plans.shard, 1)
    gathered = 2 * 2 * parameters / layers * (plans.zero == 3)  # this layer's and the next one's
    return {
        **each,
        "activations": np.where(at_last & ~first_is_last, last, held),
        # Logits are gone when the first layer is computed anew.
        "temporaries": np.maximum(again, np.where(at_last, logits, 0.0)),
        "gathered": gathered,
    }


def device_parameters(llm: LLM, plans: Plans):
    """Return [plans] of parameters of one device of the stage with most, before ZeRO."""
    experts = llm.experts * llm.expert_parameters if llm.experts > 1 else 0
    layer = llm.attention_parameters + llm.mlp_parameters - experts + experts / plans.expert
    tables = llm.embedding_parameters + np.where(plans.pipeline == 1, llm.logit_parameters, 0)
    return (llm.layers / plans.pipeline * layer + tables) / plans.tensor
