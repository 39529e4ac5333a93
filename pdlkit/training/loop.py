"""The loop: batches in, records out, never further than it can turn back."""

import collections
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pdlkit.errors import NotFinite, lesson
from pdlkit.records import Program, Record
from pdlkit.strategies.strategy import donating
from pdlkit.training.batch_checks import check_values, find_fault

EVERY = 8  # steps between two waits; see `Loop`


def train(program: Program, work, *, steps: int, state=None, seed: int = 0) -> Iterator[Record]:
    """Yield a record after every step of training.

    Args:
        program: what a strategy built.
        work: the workload, whose `batch(k, seed)` is step k's.
        steps: how many more updates to make.
        state: where to go on; by default fresh params, made from `seed`.
        seed: of the first params and of the order of the examples.

    Raises:
        ValueError: the first batch holds labels or numbers that cannot be.
        NotFinite: a loss or a weight became NaN or infinite, by a later batch or by
            itself; it carries the last good state.
    """
    yield from Loop(program, work, steps=steps, state=state, seed=seed)


class Loop:
    """One training, from a state, for a number of steps; iterate over it once.

    It waits for the devices every 8 steps (and at each of the first 8). More
    than about 32 steps in flight on simulated devices is how a kernel dies on
    JAX before 0.12; and at each wait the losses are looked at and a good state
    is put aside, for a step's own state is given away to the next.
    """

    def __init__(self, program: Program, work, *, steps: int, state=None, seed: int = 0):
        self.program, self.work, self.seed = program, work, seed
        if state is None:
            state = program.init(work.model.init(jax.random.key(seed)))
        _check_here(state, program)
        self.first = int(np.ravel(state.step)[0])
        self.last = self.first + steps
        self._good = state  # never given to a step
        self._state = _copy(state)
        self._step = donating(program.step)
        self._waiting: list[tuple[int, jax.Array]] = []

    @property
    def state(self):
        """The newest state that can be read and whose weights are all finite."""
        gone = any(leaf.is_deleted() for leaf in jax.tree.leaves(self._state))
        return self._state if not gone and _finite(self._state) else self._good

    def set_learning_rate(self, learning_rate: float) -> None:
        """Turn the learning rate for the steps to come.

        Raises:
            ValueError: the optimizer has no learning rate in its state.
        """
        memory = self._state.optimizer
        found = optax.tree_utils.tree_get_all_with_path(memory, "learning_rate")
        if not found:
            raise ValueError(
                lesson(
                    "this optimizer keeps no learning rate that could be set.",
                    why="it is a constant of the compiled step.",
                    fix="optax.inject_hyperparams(optax.sgd)(learning_rate=0.1).",
                )
            )
        old = found[0][1]
        new = jax.device_put(np.full(old.shape, learning_rate, old.dtype), old.sharding)
        memory = optax.tree_utils.tree_set(memory, learning_rate=new)
        self._state = self._state._replace(optimizer=memory)

    def __iter__(self) -> Iterator[Record]:
        first = self.work.batch(self.first, self.seed)
        check_values(first, self.work.model, self.first)
        batch = self.program.place(first)
        clock = collections.deque([time.perf_counter()], maxlen=EVERY + 1)
        for step in range(self.first, self.last):
            self._state, metrics = self._step(self._state, batch)
            self._waiting.append((step, metrics.device_loss))
            if step + 1 < self.last:  # while the devices work
                batch = self.program.place(self.work.batch(step + 1, self.seed))
            self._wait(step)
            if step == self.first + 1:
                del clock[0]  # the first step compiled; it is no measure of the others
            clock.append(time.perf_counter())
            seconds = (clock[-1] - clock[0]) / (len(clock) - 1)
            yield Record(step, metrics, seconds, self._state)

    def _wait(self, step: int) -> None:
        done = step - self.first + 1
        if done > EVERY and done % EVERY and step + 1 < self.last:
            return
        losses = jax.device_get(self._waiting)
        jax.block_until_ready(self._state)
        self._waiting.clear()
        for at, loss in losses:
            wrong = np.flatnonzero(~np.isfinite(loss))
            if wrong.size:
                device = int(wrong[0])
                what = f"the loss of step {at} is {loss[device]} on device {device} of {len(loss)}"
                self._stop(what, at, device)
        if done % EVERY == 0 or step + 1 == self.last:
            if not _finite(self._state):
                self._stop(f"a weight is not finite after step {step}, though its loss is", step)
            self._good = _copy(self._state)

    def _stop(self, what: str, step: int, device: int | None = None) -> None:
        why = (
            "its batch is sound, so the weights have run away: too large an update, or a "
            "logarithm or root of something not positive."
        )
        fix = "a smaller learning rate"
        # A batch is a pure function of its number, so its fault can still be found.
        fault = find_fault(self.work.batch(step, self.seed), self.work.model, step)
        if fault:
            what, why, fix = fault.what, f"{what}.", fault.fix
        kept = (
            f"{fix}; the state after {int(np.ravel(self._good.step)[0])} steps is kept in the "
            "error: `except pdl.NotFinite as error: error.state`."
        )
        message = lesson(f"{what}.", why=why, fix=kept)
        raise NotFinite(message, step=step, device=device, state=self._good)


def _check_here(state, program: Program) -> None:
    """Raise if a state lies on other devices than the program works on."""
    placed = [leaf for leaf in jax.tree.leaves(state) if getattr(leaf, "committed", False)]
    lies = set().union(*(leaf.sharding.device_set for leaf in placed))
    if lies and lies != set(program.mesh.devices.flat):
        raise ValueError(
            lesson(
                f"the state lies on {len(lies)} devices, which are not the {program.mesh.size} "
                "of the program.",
                why="a step works on what its own devices hold.",
                fix="program.init(run.params) begins there with the same weights; pdl.save and "
                "pdl.load carry the optimizer's state as well.",
            )
        )


@jax.jit
def _copy(state):
    return jax.tree.map(jnp.copy, state)


@jax.jit
def _finite(state):
    leaves = [leaf for leaf in jax.tree.leaves(state.params) if jnp.issubdtype(leaf, jnp.inexact)]
    return jnp.array([jnp.isfinite(leaf).all() for leaf in leaves]).all()
