"""One JupyterLab and one browser for all tests here; each leaves a picture of its page."""

import re
from pathlib import Path

import pytest

SHOTS = Path(__file__).with_name("shots")


# not for the whole session: an asyncio loop runs in this thread as long as the browser does
@pytest.fixture(scope="package")
def lab(tmp_path_factory):
    """A JupyterLab that serves an empty folder."""
    from browser import server
    from browser.lab import Lab

    path = server.chromium()
    if path is None:
        pytest.skip("no chromium and no google-chrome is here: apt-get install chromium")
    folder, hidden = (tmp_path_factory.mktemp(name) for name in ("lessons", "lab"))
    with server.serve(folder, hidden) as where, server.browse(path) as browser:
        yield Lab(folder, *where, browser)


@pytest.fixture(autouse=True)
def calm(lab):
    """No error in any page, and nothing asked of the network."""
    yield
    complaints, lab.complaints[:] = lab.complaints[:], []
    assert complaints == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Keep in `shots/` what was seen last, however the test ended."""
    try:
        return (yield)
    finally:
        SHOTS.mkdir(exist_ok=True)
        name = re.sub(r"\W+", "-", item.name).strip("-")
        for page in item.funcargs["lab"].context.pages[-1:]:
            page.screenshot(path=SHOTS / f"{name}.png")
