"""JupyterLab on this machine alone: one server, and the browser that looks at it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
)
FOLDERS = (
    *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"),
    *("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"),
)
NOT_A_READERS = ("PDLKIT_", "JAX_", "XLA_", "JUPYTER", "JPY_", "PYTEST_")  # set for tests
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
PATIENCE = 90  # seconds, for whatever is waited for


def chromium() -> str | None:
    """Return the path of a browser, or None."""
    found = (shutil.which(name) for name in NAMES)
    return os.environ.get("PDLKIT_CHROMIUM") or next(filter(None, found), None)


@contextmanager
def serve(folder: Path, hidden: Path):
    """Serve the notebooks of a folder; yield the address and its token.

    Args:
        folder: what the reader sees.
        hidden: for settings and the log; the user's own settings are not read.
    """
    environ = {name: it for name, it in os.environ.items() if not name.startswith(NOT_A_READERS)}
    environ |= {name: str(hidden / name.lower()) for name in FOLDERS}
    about = Path(environ["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab/apputils-extension")
    about.mkdir(parents=True)
    (about / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    port, token = _free_port(), secrets.token_hex(8)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--expose-app-in-browser", "--LabApp.news_url="),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"),
    ]
    log = hidden / "lab.log"
    with log.open("w") as said:
        server = subprocess.Popen(
            command, env=environ, stdout=said, stderr=said, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _await(f"{address}/api/status?token={token}", server, log)
        yield address, token
    finally:
        server.terminate()  # it ends its kernels itself
        server.wait(PATIENCE)


@contextmanager
def browse(path: str):
    """Start the browser at this path; yield it."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=SWITCHES,
            ignore_default_args=["--headless", "--headless=old"],  # ours is the new one
        )
        yield browser
        browser.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await(url: str, server: subprocess.Popen, log: Path) -> None:
    """Return when the server answers."""
    last = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < last:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"JupyterLab does not answer:\n{log.read_text()[-2000:]}")
