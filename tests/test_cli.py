"""The command line: lessons without a notebook, and what the doctor finds."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from pdlkit.cli import doctor, lab, lessons, main

PICTURE = """class Picture:
    def _repr_mimebundle_(self, include=None, exclude=None):
        import os
        kind = os.environ["PDLKIT_RENDER"]
        return {"text/plain": f"drawn as {kind}\\n__/", "image/png": "AAAA"}, {}"""


@pytest.fixture
def notebook(tmp_path):
    """Return a maker of small notebooks, a string for each code cell."""

    def make(*sources, name="07_small.ipynb"):
        cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# 07 Small\n", "Words."]}]
        for source in sources:
            code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
            cells.append({**code, "source": source.splitlines(keepends=True)})
        path = tmp_path / "lessons" / name
        path.parent.mkdir(exist_ok=True)
        content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        path.write_text(json.dumps(content))
        return path

    return make


def pdlkit(*words, **environ):
    return subprocess.run(
        [sys.executable, "-c", "import sys; from pdlkit.cli import main; sys.exit(main())", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
        timeout=120,
    )


def test_run_prints_text_code_and_pictures(notebook):
    """`pdlkit run` needs no kernel: results and displayed pictures are printed as text."""
    ran = pdlkit("run", str(notebook(PICTURE, "display(Picture())\nPicture()", "6 * 7")))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("# 07 Small\nWords.\n\nIn [1]: class Picture:\n   ...:     def")
    assert "   ...: Picture()\ndrawn as text\n__/\ndrawn as text\n__/\n" in ran.stdout
    assert ran.stdout.endswith("In [3]: 6 * 7\n42\n\n")


def test_run_may_await(notebook):
    """A cell may await at its top level, as in a notebook."""
    path = notebook("import asyncio\nprint(await asyncio.sleep(0, 'awaited'))")
    assert "\nawaited\n" in pdlkit("run", str(path)).stdout


def test_run_stops_at_the_first_failing_cell(notebook):
    """A cell that fails ends the run with its traceback, and the shell is told."""
    ran = pdlkit("run", str(notebook("1 / 0", "print('never')")))
    assert ran.returncode == 1
    assert "ZeroDivisionError: division by zero" in ran.stdout
    assert "never" not in ran.stdout


def test_a_lesson_that_is_not_there(capsys):
    """An unknown lesson is answered with those there are, and exit code 2."""
    assert main(["run", "99"]) == 2
    assert re.fullmatch(
        r"pdlkit: `99` is no lesson and no notebook\.\n"
        r"  why: the lessons here are .*; a path must end in \.ipynb\.\n"
        r"  try: pdlkit run --list\n",
        capsys.readouterr().err,
    )


def test_a_lesson_by_number_name_or_path(notebook):
    """A lesson is asked for by its number, its name or its path."""
    path = notebook()
    assert lessons.every(path.parent) == {"07": path}
    for name in ("07", "07_small", str(path)):
        assert lessons.find(name, path.parent) == path
    assert lessons.title(path) == "Small"


def test_lab_says_what_it_needs(monkeypatch, capsys):
    """Without JupyterLab, `pdlkit lab` names the line that installs it."""
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    assert main(["lab"]) == 2
    assert capsys.readouterr().err == (
        "pdlkit: `pdlkit lab` needs JupyterLab, which is not installed here.\n"
        "  why: it is an extra: Colab, VS Code and Binder bring their own notebook.\n"
        "  try: pip install jupyterlab ipykernel\n"
    )


def test_lab_opens_a_copy_where_there_is_no_clone(notebook, tmp_path, monkeypatch):
    """From a wheel, the lessons are copied here once; words after -- go to JupyterLab."""
    notebook(name="00_start.ipynb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lessons, "PACKAGE", tmp_path)
    monkeypatch.setitem(sys.modules, "jupyterlab", sys)  # any module that is there
    became = []
    monkeypatch.setattr(os, "execv", lambda program, words: became.append(words[1:]))
    for _ in range(2):
        main(["lab", "--", "--no-browser"])
    opened = str(lab.COPY / "00_start.ipynb")
    assert became == [["-m", "jupyterlab", opened, "--no-browser"]] * 2


def test_help_is_quick_and_lists_the_commands():
    """`pdlkit --help` loads neither JAX nor IPython."""
    began = pdlkit("--help", PYTHONPROFILEIMPORTTIME="1")
    for command in ("lab", "run", "doctor"):
        assert f"    {command} " in began.stdout
    loaded = {line.rpartition("|")[2].strip() for line in began.stderr.splitlines()}
    assert not loaded & {"jax", "IPython", "matplotlib", "optax"}


def test_version():
    """`pdlkit --version` says which pdlkit this is."""
    assert re.fullmatch(r"pdlkit \d+\.\d+\.\d+\n", pdlkit("--version").stdout)


def test_doctor_finds_what_is_missing():
    """A package that is missing or too old comes with the line that mends it."""
    asked = ["jax>=0.7.2", "optax", "numpy", 'jupyterlab; extra == "lab"', 'ruff; extra == "test"']
    found = {each.name: each for each in doctor.packages(asked, {"jax": "0.6.9", "numpy": "2.1"})}
    assert found["jax"][:3] == ("missing", "jax", "0.6.9 is older than 0.7.2")
    assert found["optax"].fix == f'{sys.executable} -m pip install "optax"'
    assert found["numpy"] == ("ok", "numpy", "2.1", "")
    assert found["jupyterlab"].state == "note"
    assert "ruff" not in found


def test_doctor_knows_widgets_that_stay_blank():
    """Old widgets in a new JupyterLab draw nothing; new ones need a restarted server."""
    here = {"jupyterlab": "4.6", "ipywidgets": "7.7.1"}
    blank, restart = doctor.packages([], here)
    assert (blank.state, blank.value) == ("note", "ipywidgets 7 draws nothing in JupyterLab 4")
    assert "restart its server" in restart.value


def test_doctor_reads_the_settings_that_interfere():
    """Variables that change what JAX does are named, with what they do."""
    flags = "--xla_force_host_platform_device_count=4"
    found = doctor.settings({"XLA_FLAGS": flags, "JAX_NUM_CPU_DEVICES": "3", "HOME": "here"})
    assert [each.name for each in found] == ["JAX_NUM_CPU_DEVICES", "XLA_FLAGS"]
    assert found[1].value == "asks for 4 CPU devices; pdl.simulate_devices(n) wins over it"


def test_doctor_counts_a_containers_limits(tmp_path):
    """Cores and memory are what a container may use, not what the machine has."""
    for name, text in {
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:   8000000 kB\n",
        "sys/fs/cgroup/memory.max": "2000000000\n",
        "sys/fs/cgroup/memory.current": "1500000000\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cores, memory = doctor.machine(tmp_path, 16)
    assert (cores.state, cores.value[:2]) == ("note", "1;")
    assert (memory.state, memory.value) == ("note", "500 MB")


def test_doctor_finds_simulated_devices_working():
    """The doctor wakes JAX in a child and adds up over two simulated devices."""
    assert doctor.ask("", "collective") == ("ok", "", "2 of them add up 1 + 2 = 3", "")
    assert re.fullmatch(r"\d+ x .+", doctor.ask("", "devices").value)


def test_doctor_survives_what_kills_jax(monkeypatch):
    """A flag that this jaxlib does not know kills the child, not the doctor."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_no_such_flag=1")
    found = doctor.ask("devices", "devices")
    assert found == (
        "missing",
        "devices",
        "this jaxlib dies of a flag it does not know: --xla_no_such_flag=1",
        "unset XLA_FLAGS",
    )


def test_doctor_hands_on_what_an_error_advises():
    """Where the child died of an error that teaches, its advice becomes the mending line."""
    died = "Traceback ...\nRuntimeError: no CPU.\n  why: it sleeps.\n  try: wake it.\n"
    assert doctor.diagnosis(died, 1) == ("RuntimeError: no CPU.", "wake it.")


def test_doctor_does_not_wait_for_what_hangs():
    """A plugin that hangs is reported after a time limit."""
    began = time.monotonic()
    found = doctor.ask("devices", "devices", seconds=0.01)
    assert time.monotonic() - began < 10
    assert (found.state, found.fix) == ("missing", "export JAX_PLATFORMS=cpu")


def test_doctor_tells_the_shell(monkeypatch, capsys):
    """The table has a line for each finding; something missing makes the exit code 1."""
    found = [doctor.Finding("ok", "jax", "1.0"), doctor.Finding("missing", "optax", "no", "get it")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "ok       jax    1.0\nmissing  optax  no\n                try: get it\n"
    )
    monkeypatch.setattr(doctor, "examine", lambda: found[:1])
    assert main(["doctor"]) == 0
