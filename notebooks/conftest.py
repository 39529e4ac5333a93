"""What `pytest --nbval notebooks` needs: still pictures, and no word from stderr."""

import os
from pathlib import Path

os.environ.setdefault("PDLKIT_RENDER", "static")  # kernels inherit it
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_configure(config):
    """Run in the Python that tests, stop a cell that hangs, compare no times."""
    config.option.nbval_current_env = True
    config.option.nbval_cell_timeout = 120  # seconds
    config.option.nbval_sanitize_with = str(Path(__file__).with_name("sanitize.cfg"))


def pytest_collection_modifyitems(items):
    """Compare neither stderr, which differs by machine, nor SVG, drawn anew each time."""
    for cell in items:
        if hasattr(cell.parent, "skip_compare"):
            cell.parent.skip_compare = {*cell.parent.skip_compare, "stderr", "image/svg+xml"}
