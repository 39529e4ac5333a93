"""The compiler's twin of a strategy: the same rules, under plain `jit`."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.strategies.batch import specs_of_arrays
from pdlkit.strategies.data import DataParallel
from pdlkit.strategies.layout import Layout, assemble, lay_out
from pdlkit.strategies.listening import Ear, same_on_every_share
from pdlkit.strategies.placement import axes_of, shardings, ways_of
from pdlkit.strategies.spmd import Spmd, check_inner


@dataclasses.dataclass(frozen=True)
class Automatic:
    """Place the arrays as the strategy would; let the compiler find what to send.

    Moves:  what the compiler finds; for data parallelism the same all-reduce.
    Keeps:  what the strategy keeps.
    Source: Xu et al. 2021, "GSPMD", https://arxiv.org/abs/2105.04663
    """

    strategy: Spmd = dataclasses.field(default_factory=DataParallel)
    accumulate = 1

    @property
    def name(self):
        """What errors call it."""
        return f"Automatic({self.strategy.name})"

    def rules(self):
        """Where parameters live: array axis -> mesh axis."""
        return self.strategy.rules()

    def cuts(self):
        """How the batch is cut: batch axis -> mesh axis."""
        return self.strategy.cuts()

    def homes(self, places, model, mesh):
        """Where arrays live, beyond what their axes' names and the rules say."""
        return self.strategy.homes(places, model, mesh)

    def order(self, depth, mesh):
        """None: the compiler cuts stacked layers as they come."""
        del depth, mesh

    def moves(self, model, mesh):
        """What the strategy it is the twin of must send."""
        return self.strategy.moves(model, mesh)

    def build(self, model, optimizer, mesh):
        """Return the program on this mesh.

        Raises:
            ValueError: model, strategy and mesh do not fit; nothing was run.
        """
        check_inner("Automatic", self.strategy)
        layout = lay_out(self, model, optimizer, mesh)
        block = _block_on(mesh)
        axes, kept = axes_of(self.cuts().get("batch")), shardings(layout.places.kept, mesh)

        def gradients(state, batch):
            params = state.params
            # The loss is taken share by share only to show each device its own.
            shares = _shares(batch, layout, axes)
            same = same_on_every_share(model.loss, params, shares, "share")

            def objective(params):
                def one(share):
                    ear = Ear(("share",), same)
                    loss = model.loss(params, share, ear.layers({"block": block}))
                    return loss, jax.tree.map(lambda x: x[0], ear.metrics(loss))

                on = _in_order(axes, mesh) or None
                losses, metrics = jax.vmap(one, axis_name="share", spmd_axis_name=on)(shares)
                return losses.mean(), metrics

            grads, metrics = jax.grad(objective, has_aux=True)(params)
            grads = lax.with_sharding_constraint(grads, kept)
            return grads, _on_devices(metrics, mesh, axes), state.memory

        return assemble(layout, gradients, on=lambda mesh, opt: self.build(model, opt, mesh))


def _block_on(mesh: Mesh):
    """Return the block whose input is cut like the batch, not along features.

    Without a word on activations, the compiler may cut them as the weights are: for
    ZeRO 3 it gathers the whole batch on every device.

    Source: "How to Scale Your Model", https://jax-ml.github.io/scaling-book/jax-stuff
    """

    def keep(x):
        features_whole = P(*[P.UNCONSTRAINED] * (x.ndim - 1), None)
        return lax.with_sharding_constraint(x, NamedSharding(mesh, features_whole)) if x.ndim else x

    def block(apply, axes):
        del axes
        return lambda params, x: apply(params, jax.tree.map(keep, x))

    return block


def _shares(batch, layout: Layout, axes: frozenset[str]):
    """[batch, ...] -> [shares, batch / shares, ...], each share on its devices."""
    mesh = layout.mesh

    def cut(array, spec):
        shares = array.reshape(ways_of(axes, mesh), -1, *array.shape[1:])
        place = NamedSharding(mesh, P(_in_order(axes, mesh), None, *spec[1:]))
        return lax.with_sharding_constraint(shares, place)

    return jax.tree.map(cut, batch, specs_of_arrays(layout.batch, batch))


def _on_devices(metrics, mesh: Mesh, axes: frozenset[str]):
    """[shares, ...] -> [mesh.size, ...]: each device shows the share it works on."""
    grid = [size if name in axes else 1 for name, size in mesh.shape.items()]

    def spread(figure):
        rest = figure.shape[1:]
        figure = jnp.broadcast_to(figure.reshape(*grid, *rest), (*mesh.shape.values(), *rest))
        figure = figure.reshape(mesh.size, *rest)
        return lax.with_sharding_constraint(figure, NamedSharding(mesh, P(mesh.axis_names)))

    return jax.tree.map(spread, metrics)


def _in_order(axes: frozenset[str], mesh: Mesh) -> tuple[str, ...]:
    return tuple(axis for axis in mesh.axis_names if axis in axes)
