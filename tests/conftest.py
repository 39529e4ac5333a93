"""What every test shares: eight simulated devices and a workload."""

import os

os.environ.setdefault("PDLKIT_RENDER", "static")

import pytest

from pdlkit.devices import simulate_devices

simulate_devices(8)


@pytest.fixture(scope="session")
def digits():
    """The digits, 64 numbers each, and the small residual MLP that learns them."""
    from pdlkit import workloads

    return workloads.digits_mlp()
