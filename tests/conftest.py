"""What every test shares: eight simulated devices and a workload."""

import collections
import os
import signal

os.environ.setdefault("PDLKIT_RENDER", "static")

import pytest

from pdlkit.devices import simulate_devices

simulate_devices(8)

# A job in the background of a shell ignores interrupts; some tests send one to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--brief",
        action="store_true",
        help="of a test with more than two cases every third, and of the next test others",
    )


def pytest_collection_modifyitems(config, items):
    """With `--brief`, thin out tests that have many cases: for another JAX version."""
    if not config.getoption("--brief"):
        return
    cases = collections.defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    dropped = {
        item
        for turn, group in enumerate(cases.values())
        for i, item in enumerate(group)
        if len(group) > 2 and (i + turn) % 3
    }
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = [item for item in items if item not in dropped]


@pytest.fixture(scope="session")
def digits():
    """The digits, 64 numbers each, and the small residual MLP that learns them."""
    from pdlkit import workloads

    return workloads.digits_mlp()
