"""What `pytest --nbval notebooks` needs: still pictures, and no word from stderr."""

import os

os.environ.setdefault("PDLKIT_RENDER", "static")  # kernels inherit it
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_configure(config):
    """Run in the Python that tests, and stop a cell that hangs."""
    config.option.nbval_current_env = True
    config.option.nbval_cell_timeout = 120  # seconds


def pytest_collection_modifyitems(items):
    """Compare neither stderr, which differs by machine, nor SVG, drawn anew each time."""
    for cell in items:
        if hasattr(cell.parent, "skip_compare"):
            cell.parent.skip_compare = {*cell.parent.skip_compare, "stderr", "image/svg+xml"}
