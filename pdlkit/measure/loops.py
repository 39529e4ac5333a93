"""How often a compiled loop runs."""

import re
import warnings
from collections.abc import Mapping

from pdlkit.errors import lesson
from pdlkit.measure.hlo_text import Computation, Instruction, Module, root

_WRITTEN = re.compile(r"known_trip_count\W+n\W+(\d+)")
_INDEX = re.compile(r"index=(\d+)")
_SAID = re.compile(r"(\d+) of (\d+) turns(?:/while)?$")
_NAME = re.compile(r'op_name="([^"]*)"')


def trip_count(loop: Instruction, around: Computation, module: Module) -> int | None:
    """Return how often the body of a `while` runs, or None where it depends on data.

    CPU and GPU write the number down. The TPU compiler does not: there it follows
    from the counter's start, its step, and the limit that it is compared with.

    Args:
        loop: the `while` instruction.
        around: the computation it stands in.
        module: the whole program.
    """
    if written := _WRITTEN.search(loop.attributes):
        return int(written[1])
    (condition,) = (module.computations[name] for name in loop.calls("condition"))
    (body,) = (module.computations[name] for name in loop.calls("body"))
    test = root(condition)
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
        return None
    counter, limit = (condition.get(name) for name in test.operands)
    place = _INDEX.search(counter.attributes) if counter else None
    if place is None:
        return None
    start = _constant(_element(around[loop.operands[0]], int(place[1]), around), around)
    step = _step(_element(root(body), int(place[1]), body), body)
    stop = _constant(limit, condition)
    if start is None or not step or stop is None:
        return None
    return max(0, -(-(stop - start) // step))


def said_times(name: str, times: int) -> int | None:
    """Return how often the body of a loop runs whose name says so, else None.

    Args:
        name: "... 8 of 22 turns": on the device that turns most, 8 for each 22 times
            that the loop is reached. A `jax.named_scope` round the loop gives it.
        times: how often it is reached.
    """
    said = _SAID.search(name)
    return times * int(said[1]) // int(said[2]) if said else None


def name_of(loop: Instruction) -> str:
    """Return the name of a compiled loop: the scopes it stands in."""
    found = _NAME.search(loop.attributes)
    return found[1] if found else ""


def warn_unknown(source: str) -> None:
    """Warn that a loop whose length depends on data is counted as one turn."""
    warnings.warn(
        lesson(
            f"the loop at {source or 'an unknown line'} runs as often as its data says; "
            "its body is counted once.",
            why="a count is read off the program, and nothing is run.",
            fix="jax.lax.scan or fori_loop with a fixed length, or multiply by hand.",
        ),
        stacklevel=2,
    )


def _element(tuple_: Instruction, index: int, computation: Mapping) -> Instruction | None:
    if tuple_.opcode != "tuple":
        return None
    return computation.get(tuple_.operands[index])


def _step(added: Instruction | None, body: Computation) -> int | None:
    """Return what is added to the counter in every turn."""
    if added is None or added.opcode != "add":
        return None
    steps = [_constant(body.get(name), body) for name in added.operands]
    return next((step for step in steps if step is not None), None)


def _constant(value: Instruction | None, computation: Computation) -> int | None:
    """Return the whole number that an instruction gives, through copies of it."""
    while value is not None and value.opcode in ("copy", "bitcast"):
        value = computation.get(value.operands[0])
    if value is None or value.opcode != "constant" or not re.fullmatch(r"-?\d+", value.arguments):
        return None
    return int(value.arguments)
