"""A plan in plain words: what it is for, what limits it, what to change."""

from pdlkit.prediction.estimates import Estimate

_FIRST = {
    "compute": "It is arithmetic that takes the time: faster devices, or more of them.",
    "launch": "The host cannot start operations as fast as the device ends them: larger "
    "micro-batches, fewer tensor ways, or a step that is compiled.",
    "tensor": "Sums inside layers wait for links: fewer tensor ways, or faster links in a node.",
    "context": "Keys and values wait for links: fewer context ways, or longer sequences.",
    "expert": "Tokens wait on their way to experts: fewer expert ways, or faster links.",
    "pipeline": "Stages wait for each other's messages: a larger micro-batch, or fewer stages.",
    "bubble": "Stages wait for the first and last micro-batches: a larger batch gives more of "
    "them, more virtual stages shorter ones.",
    "data": "Data ways wait for each other: a larger batch, or faster links between nodes.",
    "optimizer": "The update reads much memory, which more devices that share it divide.",
}


def advise(found: Estimate) -> str:
    """Return what a plan does and why, what limits it, and what to change first."""
    device, held = found.cluster.hardware, found.memory / found.cluster.hardware.memory_bytes
    waits = {part: each for part, each in found.breakdown.items() if part != "compute"}
    most = max(waits, key=lambda part: waits[part])
    share = waits[most] / found.seconds
    few = 0.03  # of the step; less than what such a model knows
    return "\n".join(
        [
            f"Train it by: {found.plan}.",
            *_ways(found),
            f"A step takes {found.seconds:.3g} s at {found.mfu:.0%} of the peak, and the fullest "
            f"{device.name} holds {found.memory / 1e9:.3g} GB, {held:.0%} of what it has.",
            f"Of the step {share:.0%} is {most}. {_FIRST[most if share > few else 'compute']}",
        ]
    )


def _ways(found: Estimate):
    plan, hardware = found.plan, found.cluster.hardware
    whole = found.llm.parameters * 18 / 1e9
    if whole > hardware.memory_bytes / 1e9:
        yield (
            f"Weights, gradients and Adam's state are {whole:.4g} GB, and a device has "
            f"{hardware.memory_bytes / 1e9:.3g}: so they are cut."
        )
    if plan.tensor > 1:
        where = "inside a node" if plan.tensor <= found.cluster.node else "across nodes"
        yield f"Layers are cut {plan.tensor} ways {where}, where each waits for sums in its middle."
    if plan.pipeline > 1:
        yield (
            f"The depth is cut into {plan.pipeline} stages, which send little, but wait "
            f"{found.breakdown['bubble'] / found.seconds:.0%} of the step."
        )
    if plan.context > 1:
        yield f"Sequences are cut {plan.context} ways, for their activations are long."
    if plan.data > 1:
        often = "for every micro-batch" if plan.zero > 1 else "once a step"
        yield f"The batch is cut {plan.data} ways, which meet {often}."
    if plan.recompute != "none":
        what = "scores are" if plan.recompute == "selective" else "all activations are"
        yield f"To make room, {what} computed twice."
