"""How long one layer of a transformer takes, operation by operation."""

from typing import Any, NamedTuple

import numpy as np

from pdlkit.prediction.hardware import Hardware
from pdlkit.prediction.language_models import LLM
from pdlkit.prediction.plans import Plans


class Pass(NamedTuple):
    """Seconds of one micro-batch in one layer, or in what ends the network."""

    forward: np.ndarray
    backward: np.ndarray
    again: np.ndarray  # of a forward pass, for the backward one: what was not kept


def passes(llm: LLM, plans: Plans, hardware: Hardware) -> tuple[Pass, Pass]:
    """Return the seconds of one layer, and of what ends the network, no messages.

    Of many plans few differ in what one layer does; each such kind is looked at once.
    """
    p = plans
    kinds = (
        p.tensor,
        p.context,
        p.expert,
        p.micro_batch,
        p.sequence_parallel,
        p.recompute,
        p.flash,
    )
    key = np.ravel_multi_index(kinds, [int(kind.max()) + 1 for kind in kinds])
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    few, back = plans.take(first), back.reshape(-1)
    layer, logits = _layer(llm, few, hardware), _logits(llm, few, hardware)
    return Pass(*(each[back] for each in layer)), Pass(*(each[back] for each in logits))


class _Work:
    """Operations of one device that are added up; sizes may be arrays."""

    def __init__(self, hardware: Hardware):
        self.hardware = hardware
        self.seconds: Any = 0.0

    def product(self, m, n, k, *, batch: Any = 1.0) -> "_Work":
        self.seconds = self.seconds + self.hardware.matmul_seconds(m, n, k, batch=batch)
        return self

    def backwards(self, m, n, k, *, batch: Any = 1.0) -> "_Work":
        """Add the gradients of both operands of a product."""
        return self.product(m, k, n, batch=batch).product(k, n, m, batch=batch)

    def stream(self, count, operations: int = 1) -> "_Work":
        self.seconds = self.seconds + self.hardware.stream_seconds(count, operations)
        return self


def _layer(llm: LLM, plans: Plans, hardware: Hardware) -> Pass:
    """Return the seconds of one layer, without messages.

    Each product of matrices, and each kernel that reads and writes activations: what
    Megatron-LM's layers ran as kernels of their own, with two bytes a number.
    """
    tokens = plans.micro_batch * llm.sequence / plans.context
    attention, scores = _attention(llm, plans, hardware, tokens)
    rest = _rest(llm, plans, hardware, tokens)
    both = [a + b for a, b in zip(attention, rest, strict=True)]
    again = np.choose(
        plans.recompute,
        [np.zeros(len(tokens)), np.where(plans.flash, 0.0, scores), both[0]],
    )
    return Pass(both[0], both[1], again)


def _logits(llm: LLM, plans: Plans, hardware: Hardware) -> Pass:
    """Return the seconds of the last norm, the logits and their cross-entropy."""
    tokens = plans.micro_batch * llm.sequence / plans.context
    sizes = tokens, llm.vocabulary / plans.tensor, llm.hidden
    entries = tokens * llm.vocabulary / plans.tensor
    # In float32: read for their maximum, for the sum of exponentials, and for the gradient.
    forward = _Work(hardware).product(*sizes).stream(entries * (2 + 4 + 4 + 4), 3)
    backward = _Work(hardware).backwards(*sizes).stream(entries * (4 + 2), 1)
    return Pass(forward.seconds, backward.seconds, np.zeros(len(tokens)))


def _attention(llm: LLM, plans: Plans, hardware: Hardware, tokens):
    """Return seconds forward and backward, norm to residual, and of the scores."""
    t, width = plans.tensor, llm.attention_width / plans.tensor
    # Where there are more tensor ways than heads of keys, several have the same.
    projected = width + 2 * llm.kv_width / np.minimum(t, llm.kv_heads)
    outside = tokens * llm.hidden / np.where(plans.sequence_parallel, t, 1)
    forward, backward = _Work(hardware), _Work(hardware)

    forward.stream(4 * outside).product(tokens, projected, llm.hidden)
    forward.stream(4 * tokens * projected, 2)  # laid out by heads
    backward.stream(8 * outside).backwards(tokens, projected, llm.hidden)
    backward.stream(4 * tokens * projected, 2)

    scores, back = _scores(llm, plans, hardware, tokens)

    forward.stream(4 * tokens * width).product(tokens, llm.hidden, width)
    forward.stream(7 * outside)  # bias, dropout, residual
    backward.stream(4 * tokens * width).backwards(tokens, llm.hidden, width)
    backward.stream(5 * outside)
    return (forward.seconds + scores, backward.seconds + back), scores


def _scores(llm: LLM, plans: Plans, hardware: Hardware, tokens):
    """Return forward and backward seconds of what lies between keys and values."""
    heads = plans.micro_batch * llm.heads / plans.tensor
    own = llm.sequence / plans.context
    sizes, entries = (own, llm.sequence, llm.head), heads * own * llm.sequence
    apart, apart_back = _Work(hardware), _Work(hardware)
    # Scaled, masked and normalised in one kernel; dropout, with its mask, in another.
    apart.product(*sizes, batch=heads).stream((4 + 5) * entries, 2)
    apart.product(own, llm.head, llm.sequence, batch=heads)
    apart_back.backwards(*sizes, batch=heads).stream((5 + 6) * entries, 2)
    apart_back.backwards(own, llm.head, llm.sequence, batch=heads)

    # Half of the scores are masked; a fused kernel goes round them. Backwards it computes
    # five products, for the scores have to be found anew.
    fused = 4 * entries * llm.head / 2 / (hardware.peak("bf16") * hardware.attention_share)
    fused = fused + hardware.operation_seconds
    return (
        np.where(plans.flash, fused, apart.seconds),
        np.where(plans.flash, 2.5 * fused, apart_back.seconds),
    )


def _rest(llm: LLM, plans: Plans, hardware: Hardware, tokens):
    """Return forward and backward seconds of the MLP, from its norm to its residual."""
    t, gates = plans.tensor, 2 if llm.gated else 1
    outside = tokens * llm.hidden / np.where(plans.sequence_parallel, t, 1)
    forward, backward = _Work(hardware), _Work(hardware)
    # Every local expert takes the tokens that the devices of its group send it.
    local = llm.experts / plans.expert
    rows = tokens * llm.top_k / local
    width = llm.ffn / t

    forward.stream(4 * outside).product(rows, gates * width, llm.hidden, batch=local)
    forward.stream((2 * gates + 2) * tokens * llm.top_k * width)
    forward.product(rows, llm.hidden, width, batch=local).stream(7 * outside)
    backward.stream(8 * outside).backwards(rows, gates * width, llm.hidden, batch=local)
    backward.stream((4 * gates + 2) * tokens * llm.top_k * width)
    backward.backwards(rows, llm.hidden, width, batch=local).stream(5 * outside)
    if llm.experts > 1:  # what chooses, and tokens laid out by expert and back
        forward.product(tokens, llm.experts, llm.hidden)
        forward.stream(8 * tokens * llm.top_k * llm.hidden, 4)
        backward.backwards(tokens, llm.experts, llm.hidden)
        backward.stream(8 * tokens * llm.top_k * llm.hidden, 4)
    return forward.seconds, backward.seconds
