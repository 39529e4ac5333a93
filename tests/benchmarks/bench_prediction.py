"""How fast predictions are: the whole space of plans, and a large schedule played.

    python -m pytest tests/benchmarks/bench_prediction.py -s

Wanted: all plans of 175e9 parameters on 1,024 A100 within 30 s, at 100,000 a second
of CPU or more; 1F1B of 64 stages and 2,048 micro-batches played within 0.5 s, and
in proportion to its ops.
"""

import time

import pdlkit as pdl


def test_the_whole_space():
    """The best of five searches, by CPU, and the counts that it states."""
    cluster, best = pdl.cluster(pdl.hardware.a100_80g, devices=1024), float("inf")
    for _ in range(5):
        began = time.process_time()
        found = pdl.search(pdl.llms.gpt3_175b, cluster, batch=1536)
        best = min(best, time.process_time() - began)
    print(f"\n{found.rule}")
    print(
        f"{found.evaluated:,} plans evaluated, {found.fitting:,} fit, {found.uneven:,} are uneven;"
        f" {best:.2f} s of CPU, {found.evaluated / best:,.0f} a second"
    )
    assert best < 30
    assert found.evaluated / best > 100_000


def test_a_large_schedule():
    """Seconds to make, check and play a table, and those of play for each op."""
    for stages, microbatches in ((16, 512), (64, 512), (64, 2048)):
        began = time.perf_counter()
        table = pdl.schedules.one_f_one_b(stages, microbatches)
        made = time.perf_counter() - began
        played = min(_seconds(table) for _ in range(5))
        each = played / len(table.ops)
        print(f"\n{table}: made in {made:.2f} s, played in {played:.3f} s, {each:.2e} s an op")
    assert played < 0.5


def _seconds(table) -> float:
    began = time.perf_counter()
    pdl.play(table, transfer=0.1)
    return time.perf_counter() - began
