"""The README and the lessons keep their word: code that runs, one address."""

import base64
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# where a badge opens a notebook, and where the cell for Colab installs from
ADDRESS = re.compile(r"(?:/gh|google\.com/github|git\+https://github\.com)/([\w-]+/[\w-]+)")


@pytest.mark.parametrize("code", BLOCKS, ids=["ten lines", "your own model", "predictions"])
def test_code_runs(code, tmp_path):
    """Every piece of Python in the README runs as it stands, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_model_of_ones_own_learns(tmp_path):
    """The README's own model ends with a tenth of the loss it began with."""
    code = BLOCKS[1] + "print(run.history[0].loss / run.history[-1].loss)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(done.stdout.splitlines()[-1]) > 10


def test_there_is_one_address():
    """Badges and the cell for Colab name the repository of `pyproject.toml`, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    home = project["urls"]["Repository"].removeprefix("https://github.com/")
    texts = {"README.md": README}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path.name] = "\n".join("".join(cell["source"]) for cell in cells)
    for name, text in texts.items():
        assert set(ADDRESS.findall(text)) == {home}, name


def test_the_picture_is_what_lesson_00_draws():
    """The README's picture is the last one that lesson 00 stores, to the byte."""
    lesson = json.loads((ROOT / "notebooks/00_start.ipynb").read_text(encoding="utf-8"))
    outputs = [each for cell in lesson["cells"] for each in cell.get("outputs", ())]
    drawn = [each["data"]["image/png"] for each in outputs if "image/png" in each.get("data", {})]
    picture = (ROOT / "notebooks/start.png").read_bytes()
    assert picture == base64.b64decode("".join(drawn[-1]))
