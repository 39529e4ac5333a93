"""What a loss says while it is traced: its weighted means and its notes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pdlkit.compat import sum_over, trace_now, varying_axes
from pdlkit.errors import lesson
from pdlkit.models.layers import Layers
from pdlkit.records import Metrics


def same_on_every_share(loss, params, shares, axis: str) -> bool:
    """Return whether a loss is that of the whole batch whichever share it is given.

    `vmap` refuses to give out one value for all shares where they differ. Traced
    on shapes alone.

    Args:
        loss: params, batch, layers -> scalar.
        params: as the loss takes them.
        shares: like a batch, [shares, ...] each.
        axis: the name that `layers.mean` is to sum over.
    """

    def of_a_share(params, share):
        return loss(params, share, Ear((axis,)).layers({}))

    try:
        apart = jax.vmap(of_a_share, in_axes=(None, 0), out_axes=None, axis_name=axis)
        jax.eval_shape(apart, params, shares)
    except ValueError:  # and if it was the loss that raised, it will again, in earnest
        return False
    return True


class Micro(NamedTuple):
    """What one micro-batch of several must know of the others."""

    times: int  # how many there are
    weights: tuple | None = None  # of each `layers.mean`, over all of them; None: not known yet
    nudges: Any = None  # [means], added to each, to ask how the loss depends on it


class Heard(NamedTuple):
    """What a loss said beside its value."""

    metrics: Metrics
    weights: tuple  # of each `layers.mean`, on this device, in the order they were called


class Ear:
    """Hears one tracing of a loss; used once, thrown away with the trace.

    Args:
        cuts: the mesh (or `vmap`, or `pmap`) axes that the batch is cut over.
        same: whether the loss is the same on every share; None inside
            `shard_map`, where the type of the loss says so.
        micro: where the loss is that of one micro-batch of several.
    """

    def __init__(self, cuts: tuple[str, ...], same: bool | None = None, micro: Micro | None = None):
        self._cuts, self._same, self._micro, self._trace = cuts, same, micro, trace_now()
        self._notes, self._mean, self.weights = {}, None, ()

    def layers(self, replaced: dict) -> Layers:
        """Return the layer operations that this ear listens to."""
        return Layers(**{"mean": self._hear_mean, "note": self._hear_note, **replaced})

    def metrics(self, loss) -> Metrics:
        """Return what this device says of the step, each figure `[1, ...]`.

        A loss that went through `layers.mean` is the same on every device. Its
        own part is then put in place of the last such mean.
        """
        weight = None
        same = not varying_axes(loss) & set(self._cuts) if self._same is None else self._same
        if self._mean is not None and same:
            own, whole, weight = self._mean
            loss = own if loss is whole else loss + own - whole
        return jax.tree.map(lambda x: jnp.asarray(x)[None], Metrics(loss, self._notes, weight))

    def _hear_mean(self, total, weight):
        here = self._trace == trace_now()
        if not self._cuts and self._micro is None:
            return total / weight
        # Two sums, for 0.7.2 cannot differentiate one of a pair by itself.
        summed = sum_over(total, self._cuts) if self._cuts else total
        place = len(self.weights)
        whole = summed / self._whole_weight(weight, here)
        if self._micro is not None and self._micro.nudges is not None:
            whole = whole + self._micro.nudges[place]
        if jnp.ndim(whole) == 0 and here:
            held = jnp.asarray(weight, whole.dtype)
            # A share without a single example says what the whole batch says.
            own = jnp.where(held > 0, total / jnp.where(held > 0, held, 1), whole)
            self._mean = own, whole, held
        return whole

    def _whole_weight(self, weight, here: bool):
        if self._micro is None:
            return sum_over(weight, self._cuts)
        if not here:
            raise ValueError(
                lesson(
                    "`layers.mean` was called inside a loop or a block, in a loss that is taken "
                    f"in {self._micro.times} micro-batches.",
                    why="a mean over the whole batch is not there before the last of them.",
                    fix="one micro-batch, or a loss without it (a mixture of experts: balance=0).",
                )
            )
        place = len(self.weights)
        self.weights = (*self.weights, jnp.asarray(weight))
        if self._micro.weights is None:
            return weight
        return self._micro.weights[place] / self._micro.times

    def _hear_note(self, name, value):
        if self._trace != trace_now():
            raise ValueError(
                lesson(
                    f"`{name}` was noted inside a loop or another transformation of the loss.",
                    why="its value does not leave the loop by itself.",
                    fix="run equal blocks by pdl.models.repeat, which hands notes out.",
                )
            )
        self._notes[name] = value
