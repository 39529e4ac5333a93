"""`pdlkit doctor`: what is here, what is missing, and the line that mends it."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pdlkit.cores import allowed_cores, within_quota
from pdlkit.units import write_bytes

OK, NOTE, MISSING = "ok", "note", "missing"
PIP = f"{sys.executable} -m pip install"


class Finding(NamedTuple):
    """One line of the doctor's table."""

    state: str  # ok; note: works, but know this; missing: needed and not here
    name: str
    value: str
    fix: str = ""


def main(_args) -> int:
    """Print the table; return 1 where something needed is missing."""
    findings = examine()
    print(table(findings))
    return int(any(finding.state == MISSING for finding in findings))


def examine() -> list[Finding]:
    """Return everything that is found on this machine."""
    python = Finding(
        OK, "Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    return [
        python,
        *machine(Path("/"), allowed_cores()),
        *packages(importlib.metadata.requires("pdlkit") or [], installed()),
        *settings(os.environ),
        *awake(),
    ]


def table(findings: list[Finding]) -> str:
    """Return findings as lines, each mending line under its finding."""
    wide = max(len(finding.name) for finding in findings)
    lines = []
    for state, name, value, fix in findings:
        lines.append(f"{state:<7}  {name:<{wide}}  {value}")
        if fix:
            lines.append(f"{'':<7}  {'':<{wide}}  try: {fix}")
    return "\n".join(lines)


def machine(root: Path, cores: int) -> list[Finding]:
    """Return cores and free memory, a container's limits counted in.

    Args:
        root: where `proc` and `sys` are.
        cores: what the operating system allows.
    """
    cores = within_quota(cores, root)
    few = "simulated devices take turns: speedup is modelled, not measured"
    found = [Finding(OK, "cores", str(cores)) if cores > 1 else Finding(NOTE, "cores", f"1; {few}")]
    free = free_memory(root)
    if free is not None and free < 1e9:
        fix = "close other programs and kernels; eight simulated devices want about 1 GB"
        found.append(Finding(NOTE, "free memory", write_bytes(free), fix))
    else:
        found.append(Finding(OK, "free memory", write_bytes(free) if free else "not told here"))
    return found


def free_memory(root: Path) -> int | None:
    """Return the bytes still free, or None where this system does not say."""
    told = re.search(r"MemAvailable:\s+(\d+) kB", read(root / "proc/meminfo"))
    free = [int(told[1]) * 1024] if told else []
    group = root / "sys/fs/cgroup"
    for limit, used in (  # version 2 of control groups, then version 1
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        if read(group / limit).isdigit() and read(group / used).isdigit():
            free.append(int(read(group / limit)) - int(read(group / used)))
    return min(free, default=None)


def read(path: Path) -> str:
    """Return a small file's text, or nothing where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def installed() -> dict[str, str]:
    """Return the distributions installed here: name -> version."""
    return {
        each.name.lower().replace("_", "-"): each.version
        for each in importlib.metadata.distributions()
    }


def packages(requirements: list[str], here: Mapping[str, str]) -> list[Finding]:
    """Return how what is installed meets what pdlkit and its lab extra ask for."""
    found = []
    for requirement in requirements:
        asked, _, marker = requirement.partition(";")
        if "extra" not in marker:
            found.append(package(asked.strip(), here, MISSING))
        elif "lab" in marker:
            found.append(package(asked.strip(), here, NOTE))
    if "jupyterlab" in here and numbers(here.get("ipywidgets", "8")) < (8,):
        why = "ipywidgets 7 draws nothing in JupyterLab 4"
        found.append(Finding(NOTE, "widgets", why, f'{PIP} "ipywidgets>=8"'))
    why = "after %pip install inside a running Jupyter, restart its server and reload the page"
    return [*found, Finding(OK, "widgets", why)]


def package(asked: str, here: Mapping[str, str], without: str) -> Finding:
    """Return whether one requirement is met; `without` is the state if not."""
    name, _, least = asked.partition(">=")
    version = here.get(name)
    if version is None:
        only = " (only `pdlkit lab` needs it)" if without == NOTE else ""
        return Finding(without, name, f"not installed{only}", f'{PIP} "{asked}"')
    if least and numbers(version) < numbers(least):
        return Finding(without, name, f"{version} is older than {least}", f'{PIP} "{asked}"')
    return Finding(OK, name, version)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers that can be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def settings(environ: Mapping[str, str]) -> list[Finding]:
    """Return the variables that change what JAX does, and how."""
    effects = {
        "JAX_NUM_CPU_DEVICES": "pdl.simulate_devices(n) wins over it",
        "JAX_PLATFORMS": "JAX looks for no other devices",
        "PDLKIT_RENDER": "this is how pictures are shown; unset, pdlkit looks who is there",
        "JAX_DISABLE_JIT": "nothing is compiled, so nothing can be counted",
        "JAX_ENABLE_X64": "float64 doubles the bytes that are counted",
    }
    found = [
        Finding(NOTE, name, f"{environ[name]}: {effect}")
        for name, effect in effects.items()
        if environ.get(name)
    ]
    count = re.search(r"--xla_force_host_platform_device_count=(\d+)", environ.get("XLA_FLAGS", ""))
    if count:
        says = f"asks for {count[1]} CPU devices; pdl.simulate_devices(n) wins over it"
        found.append(Finding(NOTE, "XLA_FLAGS", says))
    return found


def awake() -> list[Finding]:
    """Return what JAX sees as it wakes, and whether simulated devices work."""
    probes = {"devices": "devices", "simulated devices": "collective"}
    with ThreadPoolExecutor() as pool:
        return list(pool.map(ask, probes, probes.values()))


def ask(name: str, question: str, seconds: float = 60) -> Finding:
    """Return a probe's answer from a child, which may hang or die."""
    command = [sys.executable, "-m", "pdlkit.cli.probe", question]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(
            MISSING,
            name,
            f"JAX did not answer within {seconds:g} s: an accelerator's plugin may hang",
            "export JAX_PLATFORMS=cpu",
        )
    if child.returncode == 0:
        return Finding(OK, name, child.stdout.strip())
    return Finding(MISSING, name, *diagnosis(child.stderr, child.returncode))


def diagnosis(stderr: str, code: int) -> tuple[str, str]:
    """Return what a child that died said of it, and what to try."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "Unknown flag" in line]
    said = (telling or lines or [f"the process died with code {code}"])[-1]
    if "Unknown flag in XLA_FLAGS" in said:
        flag = said.rpartition("XLA_FLAGS: ")[2]
        return f"this jaxlib dies of a flag it does not know: {flag}", "unset XLA_FLAGS"
    if "Unable to initialize backend" in said:
        return said, "unset JAX_PLATFORMS"
    tries = [line.removeprefix("try: ") for line in lines if line.startswith("try: ")]
    see_all = f'{sys.executable} -c "import jax; print(jax.devices())"'
    return said, tries[-1] if tries else see_all
