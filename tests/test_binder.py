"""Binder: the lessons in a browser, with nothing installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"


def names(requirements) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in requirements if not line.startswith("#")}


def test_repo2docker_accepts_the_files():
    """Binder's own tool reads the folder: requirements, postBuild and start."""
    tool = Path(sys.executable).with_name("repo2docker")
    command = str(tool) if tool.exists() else shutil.which("repo2docker")
    if command is None:
        pytest.skip("repo2docker is not installed: pip install jupyter-repo2docker")
    built = subprocess.run(
        [command, "--no-build", "--debug", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    dockerfile = built.stdout + built.stderr
    assert built.returncode == 0, dockerfile
    for line in ("binder/requirements.txt", "binder/postBuild", "R2D_ENTRYPOINT"):
        assert line in dockerfile


def test_requirements_are_those_of_the_package():
    """Binder installs each base dependency by name, and no tool for tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = names((BINDER / "requirements.txt").read_text().splitlines())
    assert names(project["dependencies"]) <= asked
    assert not asked & {"pytest", "nbval", "nbclient", "ruff", "pyright"}


def test_start_gives_every_kernel_eight_devices():
    """What Binder starts sees eight simulated devices before pdlkit is asked for any."""
    assert os.access(BINDER / "postBuild", os.X_OK)
    count = "import jax; print(jax.device_count())"
    started = subprocess.run(
        [BINDER / "start", sys.executable, "-c", count],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert started.stdout.strip() == "8"
