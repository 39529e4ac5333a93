"""All plans for a model on a cluster: which fit, which are fastest, and why."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pdlkit.errors import check_kind, is_count, lesson
from pdlkit.prediction.advising import advise
from pdlkit.prediction.clusters import Cluster
from pdlkit.prediction.estimates import Estimate, estimate, evaluate
from pdlkit.prediction.language_models import LLM
from pdlkit.prediction.plans import Plans
from pdlkit.prediction.spaces import RULE, space
from pdlkit.timings import Portrayed

_CHUNK = 32768  # plans whose arrays stay in the cache


@dataclasses.dataclass(frozen=True, repr=False)
class Search(Portrayed):
    """Modelled: the plans of a space, by the seconds of a step."""

    llm: LLM
    batch: int
    best: tuple[Estimate, ...]  # fastest first, of those that fit
    pareto: tuple[Estimate, ...]  # than which none is better in seconds, bytes and dollars
    nearest: Estimate | None  # of those that do not fit, the one that needs least
    evaluated: int  # plans that cut everything evenly
    fitting: int  # of them, those that fit
    uneven: int  # plans that do not, and were not evaluated
    rule: str = RULE

    def __repr__(self) -> str:
        best = f"the best is {self.best[0]}" if self.best else "none fits"
        return f"<modelled: {self.evaluated:,} plans, {self.fitting:,} fit; {best}>"

    @property
    def plan(self):
        """The plan of the fastest; an error where none fits."""
        if not self.best:
            raise ValueError(_none_fits(self))
        return self.best[0].plan

    @property
    def why(self) -> str:
        """What made the runner-up slower."""
        if len(self.best) < 2:
            return "There is no runner-up."
        first, second = self.best[:2]
        slower = {part: second.breakdown[part] - first.breakdown[part] for part in first.breakdown}
        most = max(slower, key=lambda part: slower[part])
        longer = second.seconds / first.seconds - 1
        return (
            f"The runner-up, {second.plan}, takes {longer:.2%} longer: {slower[most]:+.3g} s of "
            f"{most}, where the step takes {first.seconds:.3g} s."
        )

    @property
    def advice(self) -> str:
        """Which way to train in plain words, why, and what to change first."""
        if not self.best:
            return _none_fits(self)
        return advise(self.best[0])


def search(
    llm: LLM,
    cluster: Cluster | Sequence[Cluster],
    *,
    batch: int,
    top: int = 10,
    flash: bool | None = None,
) -> Search:
    """Return the best plans to train a model.

    Every plan of the space is evaluated, none twice; `rule` says which they are.

    Args:
        llm: what is trained.
        cluster: on what; several are compared.
        batch: sequences of one step.
        top: how many of the best are returned.
        flash: whether attention is fused; None: as users of the device have it.

    Raises:
        ValueError: a batch or a number of best plans that is not above 0, or no cluster.
        TypeError: something else in place of a model or a cluster.
    """
    clusters = list(cluster) if isinstance(cluster, Sequence) else [cluster]
    _check(llm, clusters, batch, top)
    found, uneven = [], 0
    for each in clusters:
        plans, left = space(llm, each, batch, flash=flash)
        uneven += left
        found.append(_Costed(each, plans, *_evaluate(llm, plans, each, batch)))
    where = np.concatenate([np.full(len(each.seconds), i) for i, each in enumerate(found)])
    index = np.concatenate([np.arange(len(each.seconds)) for each in found])
    seconds = np.concatenate([each.seconds for each in found])
    held = np.concatenate([each.bytes for each in found])
    dollars = np.concatenate([each.seconds * _rate(each.cluster) for each in found])
    fits = np.concatenate([each.bytes <= each.cluster.hardware.memory_bytes for each in found])

    def told(rows) -> tuple[Estimate, ...]:
        return tuple(
            estimate(llm, each.plans.plan(index[i]), each.cluster, batch=batch)
            for i in rows
            for each in [found[where[i]]]
        )

    good = np.flatnonzero(fits)
    fastest = good[np.lexsort((held[good], seconds[good]))]
    front = _front(
        [fastest[where[fastest] == i] for i in range(len(found))], seconds, held, dollars
    )
    rest = np.flatnonzero(~fits)
    return Search(
        llm,
        batch,
        told(fastest[:top]),
        told(front),
        told([rest[np.argmin(held[rest])]])[0] if len(rest) else None,
        len(seconds),
        len(good),
        uneven,
    )


def _check(llm: LLM, clusters: list[Cluster], batch: int, top: int) -> None:
    check_kind("llm", llm, LLM, "pdl.llms.llama2_7b")
    for each in clusters:
        check_kind("cluster", each, Cluster, "pdl.cluster(pdl.hardware.h100, devices=64)")
    if not clusters or not is_count(batch) or not is_count(top):
        raise ValueError(
            lesson(
                f"there is nothing to search with {len(clusters)} clusters, batch={batch!r} and "
                f"top={top!r}.",
                why="a plan spreads a step's sequences over the devices of a cluster.",
                fix="pdl.search(llm, pdl.cluster(pdl.hardware.h100, devices=64), batch=512).",
            )
        )


class _Costed(NamedTuple):
    """The plans of one cluster, and what each costs: [plans]."""

    cluster: Cluster
    plans: Plans
    seconds: np.ndarray
    bytes: np.ndarray


def _evaluate(llm: LLM, plans: Plans, cluster: Cluster, batch: int):
    """Return [plans] of seconds and of bytes."""
    seconds, held = np.zeros((2, len(plans.data)))
    for start in range(0, len(seconds), _CHUNK):
        rows = slice(start, start + _CHUNK)
        costs = evaluate(llm, plans.take(rows), cluster, batch)
        seconds[rows], held[rows] = costs.seconds, costs.bytes
    return seconds, held


def _front(ranked: list[np.ndarray], seconds, held, dollars) -> np.ndarray:
    """Return the plans that none betters in all three, fastest first.

    Args:
        ranked: of each cluster its plans, fastest first.
        seconds: [plans].
        held: [plans], bytes.
        dollars: [plans].
    """
    # On one cluster dollars go with seconds: who needs more of both memory and time is out.
    leaner = [rows[held[rows] <= np.minimum.accumulate(held[rows])] for rows in ranked]
    some = np.concatenate(leaner)
    some = some[np.argsort(seconds[some], kind="stable")]
    costs = np.stack([held, dollars])[:, some]
    front: list[int] = []
    for i in range(costs.shape[1]):
        no_worse = (costs[:, front] <= costs[:, [i]]) | np.isnan(costs[:, [i]])
        if not no_worse.all(0).any():
            front.append(i)
    return some[front]


def _rate(cluster: Cluster) -> float:
    """Return the dollars of a second, NaN where the sheet has no price."""
    price = cluster.hardware.price
    return cluster.devices * price.dollars_per_hour / 3600 if price else np.nan


def _none_fits(found: Search) -> str:
    if found.nearest is None:
        return lesson(
            f"no plan divides {found.llm} and a batch of {found.batch}.",
            why=f"all {found.uneven} plans cut something unevenly: layers, heads or the batch.",
            fix="a batch, or a number of devices, with more divisors.",
        )
    near = found.nearest
    has = near.cluster.hardware.memory_bytes
    return lesson(
        f"no plan for {found.llm} fits: the smallest needs {near.memory / 1e9:.4g} GB a device, "
        f"of {has / 1e9:.4g}.",
        why=f"its largest part: {near.largest}, {near.memory_parts[near.largest] / 1e9:.4g} GB.",
        fix="more devices, larger ones, or a smaller batch a device.",
    )
