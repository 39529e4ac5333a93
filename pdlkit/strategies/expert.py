"""Expert parallelism: an expert lives on one device, and tokens travel to it."""

import dataclasses
import math

from jax import lax

from pdlkit.errors import lesson
from pdlkit.models.routing import run_experts, slot_count, through_experts
from pdlkit.records import Collective
from pdlkit.strategies.calls import Call
from pdlkit.strategies.spmd import Spmd


@dataclasses.dataclass(frozen=True)
class ExpertParallel(Spmd):
    """Cut the experts and, over the same axis, the batch; send tokens to experts.

    Each device routes its own tokens, so a `capacity` is one of its own tokens too:
    an expert has so many slots for each device. Where nothing is dropped, that
    makes no difference.

    Moves:  four all-to-alls of all slots a layer: there and back, and so the gradients;
            one all-reduce of the gradients of all other weights.
    Keeps:  1/n of the experts on each of n devices, and all other weights.
    Source: Lepikhin et al. 2020, "GShard", https://arxiv.org/abs/2006.16668
    """

    axis: str = "expert"

    def rules(self):
        return {"expert": self.axis}

    def cuts(self):
        return {"batch": self.axis}

    def layers(self, mesh):
        return {"experts": self._experts}

    def layer_moves(self, layout, calls):
        ways = layout.mesh.shape[self.axis]
        found = [each for each in calls if each.operation == "experts" and ways > 1]
        return tuple(move for each in found for move in 4 * (_all_to_all(each, self.axis, ways),))

    def _experts(self, x, gate, up, down, *, top_k=1, capacity=None):
        self._check_cut(gate.shape[-1], len(up))

        def answer(slots):
            here = lax.all_to_all(slots, self.axis, 0, 1, tiled=True)
            done = run_experts(here, up, down)  # [expert / n, n * slot, embed]
            return lax.all_to_all(done, self.axis, 1, 0, tiled=True)

        return through_experts(x, gate, answer, top_k=top_k, capacity=capacity)

    def _check_cut(self, chosen_among: int, here: int) -> None:
        ways = lax.axis_size(self.axis)
        if here * ways != chosen_among:
            raise ValueError(
                lesson(
                    f"the gate chooses among {chosen_among} experts, but {self.axis}={ways} "
                    f"devices hold {here} each.",
                    why="ExpertParallel cuts the experts' weights along the axis named `expert`.",
                    fix='name the first dimension of `up` and `down` "expert" in model.axes.',
                )
            )


def _all_to_all(call: Call, axis: str, ways: int) -> Collective:
    size = _slot_bytes(*call.arguments, **call.options)
    return Collective.by_ring("all_to_all", (axis,), ways, size, call.times)


def _slot_bytes(x, gate, up, down, *, top_k=1, capacity=None) -> int:
    """Return the bytes of all slots that one device fills: [expert, slot, embed]."""
    del up, down
    count, embed = gate.shape[-1], x.shape[-1]
    slots = slot_count(math.prod(x.shape[:-1]), count, top_k=top_k, capacity=capacity)
    return count * slots * embed * x.bytes_each
