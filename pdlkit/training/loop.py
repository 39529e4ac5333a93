"""The loop: batches in, records out, never further than it can turn back."""

import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
import optax

from pdlkit.errors import NotFinite, lesson
from pdlkit.records import Program, Record
from pdlkit.signals import Drop, Set, Slow
from pdlkit.strategies.strategy import donating
from pdlkit.training.batch_checks import check_values, find_fault
from pdlkit.training.clock import Clock
from pdlkit.training.moving import carry, check_place, resized, without
from pdlkit.training.places import copied, finite
from pdlkit.training.straggler import Burden

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
            state = program.init(_first_params(work.model.init, seed))
        _check_here(state, program)
        self.first = int(np.ravel(state.step)[0])
        self.last = self.first + steps
        self._at = self.first  # the step that comes next
        self._good = state  # never given to a step
        self._state = copied(state)
        finite(self._state.params)  # compiled here, not in the midst of measured steps
        self._step = donating(program.step)
        self._burden: Burden | None = None
        self._waiting: list[tuple[int, jax.Array]] = []
        self._clock = Clock(EVERY)

    @property
    def state(self):
        """The newest state that can be read and whose weights are all finite."""
        gone = any(leaf.is_deleted() for leaf in jax.tree.leaves(self._state))
        return self._state if not gone and finite(self._state.params) else self._good

    @property
    def learning_rate(self) -> float | None:
        """The learning rate of the next step; None where it is a constant of the step."""
        found = self._learning_rates()
        return float(np.ravel(found[0])[0]) if found else None

    def rest(self) -> None:
        """Forget the time that passed while training was paused."""
        self._clock.start()

    def obey(self, signal) -> None:
        """Do what a callback asked for, before the next step.

        Raises:
            ValueError: it cannot be done; the training can go on as it is.
        """
        match signal:
            case Set(learning_rate, devices):
                there = None  # found first: what is refused changes nothing
                if devices is not None and devices != self.program.mesh.size:
                    there = resized(self.program, self.work, devices)
                if learning_rate is not None:
                    self._set_learning_rate(learning_rate)
                if there is not None:
                    self._move(there)
            case Drop(device):
                self._move(without(self.program, self.work, device))
            case Slow(device, seconds):
                check_place(self.program, device)
                where = self.program.mesh.devices.flat[device]
                self._burden = Burden(where, seconds) if seconds > 0 else None

    def __iter__(self) -> Iterator[Record]:
        first = self.work.batch(self.first, self.seed)
        check_values(first, self.work.model, self.first)
        self._batch = self.program.place(first)
        self._clock.start()
        while self._at < self.last:
            step = self._at
            self._clock.resume()
            state = self._burden(self._state) if self._burden else self._state
            self._state, metrics = self._step(state, self._batch)
            self._waiting.append((step, metrics.device_loss))
            self._clock.pause()
            self._at += 1
            self._feed()  # while the devices work
            self._clock.resume()
            self._wait(step)
            seconds, waiting = self._clock.lap()
            yield Record(step, metrics, seconds, self._state, waiting)

    def _feed(self) -> None:
        """Put the next step's batch on its devices."""
        if self._at < self.last:
            self._batch = self.program.place(self.work.batch(self._at, self.seed))

    def _move(self, program: Program) -> None:
        """Go on with another program of the same strategy, on its mesh."""
        self._settle(self._at - 1)
        self._state = carry(self._state, self.program, program, self.work)
        self._good = copied(self._state)
        finite(self._state.params)
        self._burden = None  # the places of the devices have changed
        self.program, self._step = program, donating(program.step)
        self._feed()
        self._clock.start()

    def _learning_rates(self) -> list:
        found = optax.tree_utils.tree_get_all_with_path(self._state.optimizer, "learning_rate")
        leaves = [leaf for _, leaf in found]
        # A schedule keeps a state of that name, too, and would overwrite what is set.
        return leaves if all(hasattr(leaf, "dtype") for leaf in leaves) else []

    def _set_learning_rate(self, learning_rate: float) -> None:
        found = self._learning_rates()
        if not found:
            raise ValueError(
                lesson(
                    "this optimizer keeps no learning rate that could be set.",
                    why="it is a constant of the compiled step, or follows a schedule.",
                    fix="optax.inject_hyperparams(optax.sgd)(learning_rate=0.1).",
                )
            )
        old = found[0]
        new = jax.device_put(np.full(old.shape, learning_rate, old.dtype), old.sharding)
        memory = optax.tree_utils.tree_set(self._state.optimizer, learning_rate=new)
        self._state = self._state._replace(optimizer=memory)

    def _wait(self, step: int) -> None:
        done = step - self.first + 1
        if done <= EVERY or done % EVERY == 0 or self._at == self.last:
            self._look()
        if done % EVERY == 0 or self._at == self.last:
            self._settle(step)

    def _look(self) -> None:
        """Wait for the devices, and look at the losses that came since the last wait."""
        losses = jax.device_get(self._waiting)
        jax.block_until_ready(self._state)
        self._waiting.clear()
        for at, loss in losses:
            wrong = np.flatnonzero(~np.isfinite(loss))
            if wrong.size:
                device = int(wrong[0])
                what = f"the loss of step {at} is {loss[device]} on device {device} of {len(loss)}"
                self._stop(what, at, device)

    def _settle(self, step: int) -> None:
        """Put a good state aside, or raise."""
        self._look()
        if not finite(self._state.params):
            self._stop(f"a weight is not finite after step {step}, though its loss is", step)
        self._good = copied(self._state)

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


# To compile the draws of random numbers takes seconds, and anew for other devices.
@functools.lru_cache(maxsize=1)
def _first_params(init: Callable, seed: int):
    """Return the params that a seed begins with, on the host; the last ones are kept."""
    return jax.device_get(init(jax.random.key(seed)))


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
