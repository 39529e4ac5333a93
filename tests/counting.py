"""What a program was asked to send, and what its strategy says, as counts to compare."""

import collections

import pdlkit as pdl


def counted(moves) -> collections.Counter:
    """Return how often each kind of message of each size runs along each axis."""
    count = collections.Counter()
    for each in moves:
        count[each.kind, each.axes, each.payload_bytes] += each.times
    return count


def wire(moves) -> int:
    """Return the bytes that one device sends."""
    return sum(each.wire_bytes * each.times for each in moves)


def inspected(strategy, axes, work, optimizer):
    """Return the report of one step of a workload, and what the strategy says it moves."""
    mesh = pdl.mesh(**axes)
    report = pdl.inspect(strategy.build(work.model, optimizer, mesh), work)
    return report, strategy.moves(work.model, mesh)
