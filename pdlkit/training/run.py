"""A whole training in one call, blocking or awaited, and what is left of it."""

import asyncio
import dataclasses
import functools
import time
from collections.abc import Callable, Generator

import jax

from pdlkit.errors import NotFinite
from pdlkit.measure import inspect
from pdlkit.records import Program, Record, Shown, State, Training
from pdlkit.signals import Pause, Stop
from pdlkit.training.interrupts import remembered
from pdlkit.training.loop import EVERY, Loop
from pdlkit.training.watching import Watch, tell, watchers_of

BREATH = 0.05  # seconds between two questions to a callback that said Pause
GLANCE = 0.01  # seconds after which an awaited training lets others have a turn


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Shown):
    """Measured: a training that ended, or was stopped.

    `ended` says how: "done", "stopped" (by a callback), "interrupted" or "failed". The
    state may be some steps older than the history where it was interrupted, failed, or
    was stopped when weights were not finite any more.
    """

    name: str
    history: tuple[Record, ...]  # numbers only
    state: State
    program: Program
    ended: str = "done"
    seed: int = 0  # to be given to `fit` again, for the same order of examples

    @functools.cached_property
    def params(self):
        """The weights, whole, on the host."""
        return self.program.gather(self.state)

    def __repr__(self) -> str:
        return f"<run of {self.name}: {len(self.history)} steps, {self.ended}>"


def fit(
    program: Program,
    work,
    *,
    steps: int,
    state: State | None = None,
    seed: int = 0,
    watch: Watch = (),
) -> Run:
    """Train, and return the run; an interrupt (Ctrl-C) ends it cleanly.

    Args:
        program: what a strategy built.
        work: the workload.
        steps: how many more updates to make.
        state: where to go on, say `run.state`; by default a fresh one.
        seed: of the first params and of the order of the examples.
        watch: functions of a record, asked after every step, such as a `pdl.Board()`;
            each may answer `Stop()`, `Pause()`, `Set(learning_rate=..., devices=...)`,
            `Slow(device, seconds)` or `Drop(device)`. One that reads a loss makes
            every step wait for it. One with a method `begin` is told what will be
            trained (a `Training`), one with `end` is given the run, and one with
            `refused` the ValueError of what it asked for in vain.

    Raises:
        ValueError: the first batch cannot be learned from, or an answer not obeyed.
        NotFinite: a loss or a weight became NaN or infinite.
        Exception: what a callback raised. Each error has what there was as its `run`.
    """
    loop = Loop(program, work, steps=steps, state=state, seed=seed)
    turns = _turns(loop, watch, awaited=False)
    while True:
        try:
            if wait := next(turns):
                time.sleep(wait)
        except StopIteration as done:
            return done.value
        except KeyboardInterrupt as interrupt:
            return _thrown(turns, interrupt)


async def fit_async(
    program: Program,
    work,
    *,
    steps: int,
    state: State | None = None,
    seed: int = 0,
    watch: Watch = (),
) -> Run:
    """Train as `fit` does, and let sliders and buttons answer meanwhile.

    `run = await pdl.fit_async(...)` in a notebook: clicks reach the callbacks
    between two steps. Needs ipykernel 7 or later; before, they arrive when the
    cell has ended, and only an interrupt stops it.

    Raises:
        ValueError, NotFinite, Exception: as `fit` does.
    """
    loop = Loop(program, work, steps=steps, state=state, seed=seed)
    turns = _turns(loop, watch, awaited=True)
    shared = time.perf_counter()
    while True:
        try:
            wait = next(turns)
            if wait or time.perf_counter() - shared > GLANCE:
                await asyncio.sleep(wait)
                shared = time.perf_counter()
        except StopIteration as done:
            return done.value
        except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
            return _thrown(turns, interrupt)


def _turns(loop: Loop, watch: Watch, *, awaited: bool) -> Generator[float, None, Run]:
    """Yield after every step how long to sleep; return the run, however it ended."""
    watchers = watchers_of(watch)
    history: list[Record] = []
    ended = "failed"

    def finish() -> Run:
        _keep_numbers(history)
        run = Run(loop.work.name, tuple(history), loop.state, loop.program, ended, loop.seed)
        tell(watchers, "end", run)
        return run

    try:
        with remembered() as interrupted:
            tell(watchers, "begin", _about(loop, awaited))
            for record in loop:
                history.append(dataclasses.replace(record, state=None))
                if (record.step + 1 - loop.first) % EVERY == 0:  # the loop has just waited
                    _keep_numbers(history)
                mesh = loop.program.mesh
                stopped = yield from _ask(watchers, record, loop)
                if interrupted() or stopped:
                    ended = "interrupted" if interrupted() else "stopped"
                    break
                if loop.program.mesh is not mesh:
                    tell(watchers, "begin", _about(loop, awaited))
                yield 0.0
            else:
                ended = "done"
    except (KeyboardInterrupt, asyncio.CancelledError):
        ended = "interrupted"
    except Exception as error:  # whatever it was, what was learned before is kept
        setattr(error, "run", finish())  # noqa: B010
        raise
    return finish()


def _ask(watchers: list[Callable], record: Record, loop: Loop) -> Generator[float, None, bool]:
    """Put a record to each watcher, do what it answers; return whether to stop."""
    stop = False
    for watcher in watchers:
        while isinstance(answer := watcher(record), Pause):
            yield BREATH
            loop.rest()
        _obey(loop, watcher, answer)
        stop = stop or isinstance(answer, Stop)
    return stop


def _thrown(turns: Generator[float, None, Run], interrupt: BaseException) -> Run:
    """Hand an interrupt to a training that sleeps, and return what it leaves."""
    try:
        turns.throw(interrupt)
    except StopIteration as done:
        return done.value
    raise interrupt  # never: an interrupted training has ended


def _obey(loop: Loop, watcher: Callable, answer) -> None:
    try:
        loop.obey(answer)
    except NotFinite:  # seen while it was about to move; not what was asked for
        raise
    except ValueError as error:
        if not hasattr(watcher, "refused"):
            raise
        watcher.refused(error)


def _about(loop: Loop, awaited: bool) -> Training:
    program, work = loop.program, loop.work
    return Training(
        name=work.name,
        first=loop.first,
        last=loop.last,
        mesh=dict(program.mesh.shape),
        devices_here=len(program.mesh.devices.flat[0].client.devices()),
        learning_rate=loop.learning_rate,
        awaited=awaited,
        inspect=lambda: inspect(program, work),
    )


def _keep_numbers(history: list[Record]) -> None:
    """Bring the figures of the latest records to the host, in one go."""
    start = len(history)
    while start and isinstance(history[start - 1].metrics.device_loss, jax.Array):
        start -= 1
    metrics = jax.device_get([record.metrics for record in history[start:]])
    for place, figures in enumerate(metrics, start):
        history[place] = dataclasses.replace(history[place], metrics=figures)
