"""One device: what every other strategy must agree with."""

import dataclasses

import jax
from jax.sharding import AxisType, Mesh, SingleDeviceSharding

from pdlkit.devices import check_mesh
from pdlkit.devices import mesh as first_devices
from pdlkit.records import Collective, Program
from pdlkit.strategies.batch import batch_check
from pdlkit.strategies.listening import Ear
from pdlkit.strategies.strategy import first_state, update


@dataclasses.dataclass(frozen=True)
class OneDevice:
    """Train on one device, the first of the mesh.

    Moves:  nothing.
    Keeps:  all parameters and optimizer state on the one device.
    Source: Robbins and Monro 1951, doi:10.1214/aoms/1177729586
    """

    def moves(self, model, mesh) -> tuple[Collective, ...]:
        """What one step must send, as data: nothing."""
        del model, mesh
        return ()

    def build(self, model, optimizer, mesh: Mesh | None = None) -> Program:
        """Return the program; without a mesh, on the first device there is."""
        mesh = first_devices(data=1) if mesh is None else mesh
        check_mesh(mesh)
        alone = Mesh(mesh.devices.ravel()[:1], ("data",), axis_types=(AxisType.Auto,))
        here = SingleDeviceSharding(alone.devices[0])
        check = batch_check(model, {}, alone)

        @jax.jit
        def step(state, batch):
            check(batch)

            def objective(params):
                ear = Ear(())
                loss = model.loss(params, batch, ear.layers({}))
                return loss, ear.metrics(loss)

            grads, metrics = jax.grad(objective, has_aux=True)(state.params)
            return update(optimizer, state, grads), metrics

        def place(batch):
            check(batch)
            return jax.device_put(batch, here)

        return Program(
            init=jax.jit(lambda params: first_state(optimizer, params), out_shardings=here),
            step=step,
            gather=lambda state: jax.device_get(state.params),
            on=lambda mesh, optimizer=optimizer: self.build(model, optimizer, mesh),
            mesh=alone,
            place=place,
        )
