"""A whole training in one call, and what is left of it."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

import jax

from pdlkit.records import Program, Record, Shown, State
from pdlkit.training.loop import EVERY, Loop
from pdlkit.training.signals import Pause, Set, Stop

BREATH = 0.05  # seconds between two questions to a callback that said Pause


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Shown):
    """Measured: a training that ended, or was stopped.

    `ended` says how: "done", "stopped" (by a callback), "interrupted" or "failed";
    of the last two the state may be some steps older than the history.
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
    watch: Callable | Sequence[Callable] = (),
) -> Run:
    """Train, and return the run; an interrupt (Ctrl-C) ends it cleanly.

    Args:
        program: what a strategy built.
        work: the workload.
        steps: how many more updates to make.
        state: where to go on, say `run.state`; by default a fresh one.
        seed: of the first params and of the order of the examples.
        watch: functions of a record, asked after every step; each may answer
            `Stop()`, `Pause()` or `Set(learning_rate=...)`. One that reads a
            loss makes every step wait for it.

    Raises:
        ValueError: the first batch cannot be learned from.
        NotFinite: a loss or a weight became NaN or infinite.
        Exception: what a callback raised. Each error has what there was as its `run`.
    """
    loop = Loop(program, work, steps=steps, state=state, seed=seed)
    watchers = [watch] if callable(watch) else list(watch)
    history: list[Record] = []

    def finish(ended: str) -> Run:
        _keep_numbers(history)
        return Run(work.name, tuple(history), loop.state, program, ended, seed)

    try:
        for record in loop:
            history.append(dataclasses.replace(record, state=None))
            if (record.step + 1 - loop.first) % EVERY == 0:  # the loop has just waited
                _keep_numbers(history)
            answers = [_ask(watcher, record, loop) for watcher in watchers]  # each is asked
            if any(answers):
                return finish("stopped")
    except KeyboardInterrupt:
        return finish("interrupted")
    except Exception as error:  # whatever it was, what was learned before is kept
        setattr(error, "run", finish("failed"))  # noqa: B010
        raise
    return finish("done")


def _ask(watcher, record: Record, loop: Loop) -> bool:
    """Put a record to a watcher; do what it answers; return whether to stop."""
    while isinstance(answer := watcher(record), Pause):
        time.sleep(BREATH)
    if isinstance(answer, Set):
        loop.set_learning_rate(answer.learning_rate)
    return isinstance(answer, Stop)


def _keep_numbers(history: list[Record]) -> None:
    """Bring the figures of the latest records to the host, in one go."""
    start = len(history)
    while start and isinstance(history[start - 1].metrics.device_loss, jax.Array):
        start -= 1
    metrics = jax.device_get([record.metrics for record in history[start:]])
    for place, figures in enumerate(metrics, start):
        history[place] = dataclasses.replace(history[place], metrics=figures)
