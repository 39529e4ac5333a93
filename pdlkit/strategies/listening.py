"""What a loss says while it is traced: its weighted means and its notes."""

import jax
import jax.numpy as jnp
from jax import lax

from pdlkit.compat import trace_now, varying_axes
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


class Ear:
    """Hears one tracing of a loss; used once, thrown away with the trace.

    Args:
        cuts: the mesh (or `vmap`, or `pmap`) axes that the batch is cut over.
        same: whether the loss is the same on every share; None inside
            `shard_map`, where the type of the loss says so.
    """

    def __init__(self, cuts: tuple[str, ...], same: bool | None = None):
        self._cuts, self._same, self._trace = cuts, same, trace_now()
        self._notes, self._mean = {}, None

    def layers(self, replaced: dict) -> Layers:
        """Return the layer operations that this ear listens to."""
        return Layers(**{"mean": self._hear_mean, "note": self._hear_note, **replaced})

    def metrics(self, loss) -> Metrics:
        """Return what this device says of the step, each figure `[1, ...]`.

        A loss that went through `layers.mean` is the same on every device. Its
        own part is then put in place of the last such mean.
        """
        weight = None
        same = not varying_axes(loss) if self._same is None else self._same
        if self._mean is not None and same:
            own, whole, weight = self._mean
            loss = own if loss is whole else loss + own - whole
        return jax.tree.map(lambda x: jnp.asarray(x)[None], Metrics(loss, self._notes, weight))

    def _hear_mean(self, total, weight):
        if not self._cuts:
            return total / weight
        # Two sums, for 0.7.2 cannot differentiate one of a pair by itself.
        whole = lax.psum(total, self._cuts) / lax.psum(weight, self._cuts)
        if jnp.ndim(whole) == 0 and self._trace == trace_now():
            held = jnp.asarray(weight, whole.dtype)
            # A share without a single example says what the whole batch says.
            own = jnp.where(held > 0, total / jnp.where(held > 0, held, 1), whole)
            self._mean = own, whole, held
        return whole

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
