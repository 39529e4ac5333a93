"""What a program does in one step, read off it: nothing is run."""

import collections
from collections.abc import Mapping

import jax
from jax.sharding import AbstractMesh, Mesh

from pdlkit.devices import absent_mesh
from pdlkit.measure.flops import flops
from pdlkit.measure.hlo import collectives
from pdlkit.measure.jaxpr import asked
from pdlkit.measure.traffic import traffic
from pdlkit.records import Memory, Program, Report
from pdlkit.strategies.pieces import Recorder
from pdlkit.strategies.strategy import donating, placed_shapes

_ADDED = ("flops", "operations", "bytes_accessed")  # of the pieces of one device


def inspect(
    program: Program, work, *, mesh: Mesh | AbstractMesh | Mapping[str, int] | None = None
) -> Report:
    """Count what one step of a program sends, computes and holds, on one device.

    The step is traced and compiled; neither `init` nor `step` is run. Batches keep
    their size on another mesh, so more devices have less work each. Of a step in
    pieces, each on devices of its own, all copies between them are there, the
    operations of the device that has most, and the memory of the largest piece.

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
    state = placed_shapes(program, work.model)
    batch = jax.eval_shape(lambda batch: batch, work.batch(0))
    sizes = dict(program.mesh.shape)
    if hasattr(program.step, "record"):
        return _of_pieces(program.step.record(state, batch), sizes)
    step = program.step if hasattr(program.step, "lower") else jax.jit(program.step)
    # As training runs it: the new state takes the old one's place.
    return _of_one(donating(step), (state, batch), sizes, devices=program.mesh.size)


def _of_one(function, arguments: tuple, sizes: dict[str, int], *, devices: int) -> Report:
    """Return what one jitted function does on each of so many devices."""
    traced = jax.make_jaxpr(function)(*arguments)
    compiled = function.lower(*arguments).compile()
    text = compiled.as_text() or ""
    return Report(
        asked=asked(traced),
        collectives=collectives(text, sizes),
        flops=flops(traced, devices),
        memory=_memory(compiled.memory_analysis()),
        mesh=sizes,
        **traffic(text)._asdict(),
    )


def _of_pieces(step: Recorder, sizes: dict[str, int]) -> Report:
    """Return what a step does that runs in pieces, here and there."""
    work = collections.defaultdict(collections.Counter)
    reports = []
    for function, arguments, place in step.pieces:
        devices = place.device_set
        reports.append(_of_one(function, arguments, sizes, devices=len(devices)))
        for device in devices:
            work[device].update({name: getattr(reports[-1], name) for name in _ADDED})
    return Report(
        asked=(*step.copies, *(each for report in reports for each in report.asked)),
        collectives=(*step.copies, *(each for report in reports for each in report.collectives)),
        memory=max((report.memory for report in reports), key=lambda memory: memory.total),
        mesh=sizes,
        programs=len(step.pieces) + len(step.copies),
        **max(work.values(), key=lambda each: each["flops"]),
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
