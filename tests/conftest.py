"""What every test shares: eight simulated devices and a strict JAX."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PDLKIT_RENDER", "static")
