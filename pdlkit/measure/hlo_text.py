"""The text of an optimised HLO module, taken apart into instructions."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{\s*$")
_INSTRUCTION = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)")
_OPERAND = re.compile(r"%?([A-Za-z_][\w.\-]*)\s*(?=,|$)")  # its shape may stand before it
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{[^}]*E\((\d+)\)[^}]*\})?")
_BITS = re.compile(r"(?:bf|f|s|u|c)(\d+)")

_INLINE_SOURCE = re.compile(r'source_file="([^"]*)" source_line=(\d+)')  # JAX 0.7.2
_FRAME_ID = re.compile(r"stack_frame_id=(\d+)")  # since JAX 0.10, into tables at the head
_FILE_NAMES = re.compile(r"^FileNames\n((?:\d+ \".*\"\n)*)", re.MULTILINE)
_FILE_NAME = re.compile(r'^(\d+) "(.*)"$', re.MULTILINE)
_LOCATION = re.compile(r"^(\d+) \{file_name_id=(\d+).*? line=(\d+)", re.MULTILINE)
_FRAME = re.compile(r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?", re.MULTILINE)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    shape: str  # of the result, as printed
    opcode: str
    arguments: str  # what stands between the parentheses
    attributes: str  # what stands after them
    root: bool  # whether it is the computation's result

    @property
    def operands(self) -> list[str]:
        """Names of the instructions whose results go in."""
        return _OPERAND.findall(self.arguments)

    def calls(self, attribute: str) -> list[str]:
        """Return the computations under an attribute like `body` or `calls`."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.attributes)
        return re.findall(r"[\w.\-]+", found[1]) if found else []


Computation = dict[str, Instruction]  # by name, in the order in which they are printed


class Module(NamedTuple):
    """A whole program for one device."""

    entry: str
    computations: dict[str, Computation]
    frames: dict[int, tuple[str, int, int]]  # id -> file, line, id of the caller's frame

    def callers(self, instruction: Instruction) -> Iterator[tuple[str, int]]:
        """Yield file and line of each call that led here, the innermost first."""
        if inline := _INLINE_SOURCE.search(instruction.attributes):
            yield inline[1], int(inline[2])
        found = _FRAME_ID.search(instruction.attributes)
        frame = int(found[1]) if found else 0
        while frame in self.frames:
            file, line, frame = self.frames[frame]
            yield file, line


def read(text: str) -> Module:
    """Take the text of a module apart."""
    entry, computations, instructions = "", {}, {}
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            instructions[match["name"]] = _instruction(**match.groupdict())
        elif match := _COMPUTATION.match(line):
            instructions = computations[match["name"]] = {}
            entry = match["name"] if match["entry"] else entry
    return Module(entry, computations, _frames(text))


def root(computation: Computation) -> Instruction:
    """Return the instruction whose result is the computation's."""
    return next(each for each in computation.values() if each.root)


def shape_bytes(shape: str) -> int:
    """Return the size of a printed shape; of a tuple, the sum of its arrays."""
    return sum(_array_bytes(*array) for array in _ARRAY.findall(shape))


def _array_bytes(dtype: str, dimensions: str, packed: str) -> int:
    match = _BITS.match(dtype)
    bits = int(match[1]) if match else {"pred": 8}.get(dtype, 0)  # a token holds nothing
    # Four-bit numbers take a byte each, unless the layout says E(4).
    bits = int(packed) if packed else max(8, bits) if bits else 0
    count = math.prod(int(size.strip("<=")) for size in dimensions.split(",") if size)
    return -(-count * bits // 8)


def _instruction(root: str | None, name: str, rest: str) -> Instruction:
    shape_end = _closing(rest) if rest.startswith("(") else rest.find(" ")
    shape, call = rest[:shape_end], rest[shape_end:].strip()
    opcode = call.partition("(")[0]
    end = len(opcode) + _closing(call[len(opcode) :])
    arguments, attributes = call[len(opcode) + 1 : end - 1], call[end:].lstrip(", ")
    return Instruction(name, shape, opcode, arguments, attributes, root is not None)


def _closing(text: str) -> int:
    """Return the index after what closes the parenthesis that `text` begins with."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _frames(text: str) -> dict[int, tuple[str, int, int]]:
    names = _FILE_NAMES.search(text)
    files = {int(id): name for id, name in _FILE_NAME.findall(names[1] if names else "")}
    places = {int(id): (files[int(file)], int(line)) for id, file, line in _LOCATION.findall(text)}
    rows = [(int(id), int(place), int(up or 0)) for id, place, up in _FRAME.findall(text)]
    # Callers are printed one too high: the outermost frame names 1, and means none.
    shift = min((up for _, _, up in rows), default=0)
    return {id: (*places[place], up - shift) for id, place, up in rows}
