"""How long one layer of a transformer takes, operation by operation."""

from typing import Any, NamedTuple

import numpy as np

from pdlkit.prediction.hardware import Hardware
from pdlkit.prediction.language_models import LLM, RECOMPUTE
from pdlkit.prediction.plans import Plans


class Pass(NamedTuple):
    """Seconds of one micro-batch in one layer, or in what ends the network."""

    forward: np.ndarray
    backward: np.ndarray
    again: np.ndarray  # of a forward pass, for the backward one: what was not kept
    operations: np.ndarray  # that the host starts in all of these


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

    def __init__(self, hardware: Hardware, seconds: Any = 0.0, operations: Any = 0):
        self.hardware = hardware
        self.seconds = seconds
        self.operations = operations  # that the host starts one by one

    def __add__(self, other: "_Work") -> "_Work":
        seconds, operations = self.seconds + other.seconds, self.operations + other.operations
        return _Work(self.hardware, seconds, operations)

    def where(self, chosen, other: "_Work") -> "_Work":
        """Return this work where chosen, the other elsewhere."""
        return _Work(
            self.hardware,
            np.where(chosen, self.seconds, other.seconds),
            np.where(chosen, self.operations, other.operations),
        )

    def product(self, m, n, k, *, batch: Any = 1.0) -> "_Work":
        seconds = self.hardware.matmul_seconds(m, n, k, batch=batch)
        return self + _Work(self.hardware, seconds, 1)

    def backwards(self, m, n, k, *, batch: Any = 1.0) -> "_Work":
        """Add the gradients of both operands of a product."""
        return self.product(m, k, n, batch=batch).product(k, n, m, batch=batch)

    def stream(self, count, operations: int = 1) -> "_Work":
        seconds = self.hardware.stream_seconds(count, operations)
        return self + _Work(self.hardware, seconds, operations)


def _layer(llm: LLM, plans: Plans, hardware: Hardware) -> Pass:
    """Return the seconds of one layer, without messages.

    Each product of matrices, and each kernel that reads and writes activations: what
    Megatron-LM's layers ran as kernels of their own, with two bytes a number.
    """
    tokens = plans.micro_batch * llm.sequence / plans.context
    forward, backward, scores = _attention(llm, plans, hardware, tokens)
    more, more_back = _rest(llm, plans, hardware, tokens)
    forward, backward, none = forward + more, backward + more_back, _Work(hardware)
    written = scores.where(~plans.flash, none)  # scores that stayed in a kernel are not kept
    again = forward.where(
        plans.recompute == RECOMPUTE.index("full"),
        written.where(plans.recompute == RECOMPUTE.index("selective"), none),
    )
    started = (forward + backward + again).operations
    return Pass(forward.seconds, backward.seconds, again.seconds, started)


def _logits(llm: LLM, plans: Plans, hardware: Hardware) -> Pass:
    """Return the seconds of the last norm, the logits and their cross-entropy."""
    tokens = plans.micro_batch * llm.sequence / plans.context
    sizes = tokens, llm.vocabulary / plans.tensor, llm.hidden
    entries = tokens * llm.vocabulary / plans.tensor
    forward = _Work(hardware).product(*sizes)
    # Made float32; their logarithms' softmax read and written.
    forward = forward.stream(entries * (2 + 4 + 4 + 4), 3)
    # Of the targets, of the softmax (which reads two), and made half precision.
    backward = _Work(hardware).stream(entries * (4 + 3 * 4 + 4 + 2), 3).backwards(*sizes)
    none, started = np.zeros(len(tokens)), (forward + backward).operations
    return Pass(forward.seconds, backward.seconds, none, none + started)


def _attention(llm: LLM, plans: Plans, hardware: Hardware, tokens):
    """Return the work forward and backward, norm to residual, and that of the scores."""
    t, width = plans.tensor, llm.attention_width / plans.tensor
    # Where there are more tensor ways than heads of keys, several have the same.
    projected = width + 2 * llm.kv_width / np.minimum(t, llm.kv_heads)
    outside = tokens * llm.hidden / np.where(plans.sequence_parallel, t, 1)
    start = _Work(hardware)
    scores, scores_back = _scores(llm, plans, hardware)
    forward = (
        start.stream(4 * outside)
        .product(tokens, projected, llm.hidden)
        .stream(4 * tokens * projected, 2)  # laid out by heads
        .stream(4 * tokens * width)
        .product(tokens, llm.hidden, width)
        .stream(7 * outside)  # bias, dropout, residual
    )
    backward = (
        start.stream(5 * outside)
        .backwards(tokens, llm.hidden, width)
        .stream(4 * tokens * width)
        .stream(4 * tokens * projected, 2)
        .backwards(tokens, projected, llm.hidden)
        .stream(8 * outside)
    )
    return forward + scores, backward + scores_back, scores


def _scores(llm: LLM, plans: Plans, hardware: Hardware):
    """Return the work forward and backward of what lies between keys and values."""
    heads = plans.micro_batch * llm.heads / plans.tensor
    own = llm.sequence / plans.context
    sizes, entries = (own, llm.sequence, llm.head), heads * own * llm.sequence
    start = _Work(hardware)
    # Scaled, masked and normalised in one kernel; dropout, with its mask, in another.
    apart = start.product(*sizes, batch=heads).stream((4 + 5) * entries, 2)
    apart = apart.product(own, llm.head, llm.sequence, batch=heads)
    apart_back = start.backwards(*sizes, batch=heads).stream((5 + 6) * entries, 2)
    apart_back = apart_back.backwards(own, llm.head, llm.sequence, batch=heads)

    # Half of the scores are masked; a fused kernel goes round them. Backwards it computes
    # five products, for the scores have to be found anew.
    seconds = 4 * entries * llm.head / 2 / (hardware.peak("bf16") * hardware.attention_share)
    fused = _Work(hardware, seconds + hardware.operation_seconds, 1)
    fused_back = _Work(hardware, 2.5 * seconds + hardware.operation_seconds, 1)
    return fused.where(plans.flash, apart), fused_back.where(plans.flash, apart_back)


def _rest(llm: LLM, plans: Plans, hardware: Hardware, tokens):
    """Return the work forward and backward of the MLP, from its norm to its residual."""
    t, gates = plans.tensor, 2 if llm.gated else 1
    outside = tokens * llm.hidden / np.where(plans.sequence_parallel, t, 1)
    # Every local expert takes the tokens that the devices of its group send it.
    local = llm.experts / plans.expert
    rows = tokens * llm.top_k / local
    width = llm.ffn / t
    start = _Work(hardware)
    forward = (
        start.product(rows, gates * width, llm.hidden, batch=local)
        .stream((2 * gates + 2) * tokens * llm.top_k * width)
        .product(rows, llm.hidden, width, batch=local)
    )
    backward = (
        start.backwards(rows, llm.hidden, width, batch=local)
        .stream((4 * gates + 2) * tokens * llm.top_k * width)
        .backwards(rows, gates * width, llm.hidden, batch=local)
    )
    if not llm.parallel:  # side by side with attention it has no norm and no residual of its own
        forward = forward.stream(4 * outside).stream(7 * outside)
        backward = backward.stream(8 * outside).stream(5 * outside)
    if llm.experts > 1:  # what chooses, and tokens laid out by expert and back
        laid_out = 8 * tokens * llm.top_k * llm.hidden
        forward = forward.product(tokens, llm.experts, llm.hidden).stream(laid_out, 4)
        backward = backward.backwards(tokens, llm.experts, llm.hidden).stream(laid_out, 4)
    return forward, backward
