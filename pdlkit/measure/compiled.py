"""What a program does in one step, read off it: nothing is run."""

from collections.abc import Mapping

import jax
from jax.sharding import AbstractMesh, Mesh

from pdlkit.devices import absent_mesh
from pdlkit.measure.flops import flops
from pdlkit.measure.hlo import collectives
from pdlkit.measure.jaxpr import asked
from pdlkit.models.parts import param_shapes
from pdlkit.records import Memory, Program, Report
from pdlkit.strategies.strategy import donating


def inspect(
    program: Program, work, *, mesh: Mesh | AbstractMesh | Mapping[str, int] | None = None
) -> Report:
    """Count what one step of a program sends, computes and holds, on one device.

    The step is traced and compiled; neither `init` nor `step` is run. Batches keep
    their size on another mesh, so more devices have less work each.

    Args:
        program: how the workload is spread.
        work: a `Workload`; its model's shapes and its first batch are read.
        mesh: another mesh to spread it over, of devices that need not be here:
            `dict(data=64)`.

    Raises:
        ValueError: the program cannot be spread over that mesh.
    """
    if mesh is not None:
        program = program.on(mesh if isinstance(mesh, Mesh) else absent_mesh(**_sizes(mesh)))
    state = jax.eval_shape(program.init, param_shapes(work.model))
    batch = jax.eval_shape(lambda batch: batch, work.batch(0))
    step = program.step if hasattr(program.step, "lower") else jax.jit(program.step)
    step = donating(step)  # as training runs it: the new state takes the old one's place
    traced = jax.make_jaxpr(step)(state, batch)
    compiled = step.lower(state, batch).compile()
    sizes = dict(program.mesh.shape)
    return Report(
        asked=asked(traced),
        collectives=collectives(compiled.as_text() or "", sizes),
        flops=flops(traced, program.mesh.size),
        memory=_memory(compiled.memory_analysis()),
        mesh=sizes,
    )


def _sizes(mesh: AbstractMesh | Mapping[str, int]) -> dict[str, int]:
    return dict(mesh.shape if isinstance(mesh, AbstractMesh) else mesh)


def _memory(analysis) -> Memory:
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
    )
