"""The house: what stands where, who may import whom, and how large it may grow."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pdlkit

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pdlkit"

# Rooms in one row do not import each other; a row imports only from the rows above it.
HOUSE = (
    ("errors", "units", "signals"),  # floor 0, which has stairs of its own
    ("records", "compat"),
    ("pictures", "timings"),
    ("cpu", "cores"),  # floor 1
    ("devices", "processes"),
    ("collectives", "schedules", "models", "data"),  # floor 2
    ("strategies", "workloads"),  # floor 3
    ("measure", "prediction"),  # floor 4
    ("training", "serve", "drawing"),  # floor 5
    ("learn", "extras", "cli"),  # floor 6
)
FLOOR = {room: row for row, rooms in enumerate(HOUSE) for room in rooms}

LONG_FILE, LONGEST_FILE, LONGEST_FUNCTION = 250, 300, 60  # lines
LONGER: dict[str, str] = {
    "pdlkit/strategies/spmd.py": "what a strategy may say, and what a hybrid makes of it",
}  # file -> why it may have more than 250

TOP = {"pyproject.toml", "notebooks", "pdlkit", "tests", "binder", "README.md"}
DEMANDED = {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".ci", ".gitignore"}
HEAVY = ("IPython", "ipywidgets", "anywidget", "matplotlib", "optax", "sklearn")

OF_THIS_MACHINE = re.compile(r"(?<![\w.+/=$-])/(?:work|root|home|Users)/")
OF_A_REGISTRY = re.compile(r"pypi\.(?:org|python)|files\.pythonhosted|index.url *=")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> list[str]:
    """Return what a module imports, by full names; `.` leads what is relative."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            found += [f"{source}.{name.name}" for name in node.names]
    return found


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def tree_of_readme() -> dict[str, str]:
    """Return the README's tree, path -> comment; deeper lines stand further right."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```text\n(pdlkit/.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "README.md has no ```text block that begins with `pdlkit/`"
    found, above = {}, []  # above: (column, path) of the folders a line stands in
    for line in block[1].splitlines():
        names, _, comment = line.partition("#")
        column = len(names) - len(names.lstrip(" │├└─"))
        above = [(left, path) for left, path in above if left < column]
        for name in names[column:].split():
            path = (above[-1][1] if above else "") + name
            found[path] = comment.strip()
        if names.rstrip().endswith("/"):
            above.append((column, path))
    return found


def test_imports_run_downwards():
    """A room imports only from rows above its own, absolutely, and never the front door."""
    wrong = []
    for path in modules():
        here = FLOOR.get(room(path), len(HOUSE))  # the front door itself stands above all
        for name in imports(parsed(path)):
            top, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            below = other == room(path) or FLOOR.get(other, len(HOUSE)) < here
            if top == "" or (top == "pdlkit" and not below):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_floor():
    """A new room says on which floor it stands before it is built."""
    assert {room(path) for path in modules()} - {"__init__"} <= set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    """A file has 250 lines at most, or 300 and a reason; a function 60; a first line 79."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (LONGEST_FILE if str(path.relative_to(ROOT)) in LONGER else LONG_FILE)
    tree = parsed(path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in [tree, *(node for node in ast.walk(tree) if isinstance(node, kinds))]:
        name = getattr(node, "name", "the module")
        first = (ast.get_docstring(node) or "").partition("\n")[0]
        assert len(first) < 80, f"{name}: {first}"
        if isinstance(node, kinds[:2]):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, name


def test_readme_tree_is_what_is_on_disk():
    """Each line of the README's tree names what exists, and says what it is for."""
    tree = tree_of_readme()
    assert [path for path in tree if not (ROOT / path).exists()] == []
    assert [path for path, comment in tree.items() if not comment] == []


def test_readme_tree_names_every_module():
    """A module stands in the README's tree, or the folder it is in does."""
    tree = set(tree_of_readme()) - {"pdlkit/"}
    missing = []
    for path in modules():
        inside = path.relative_to(ROOT)
        folders = {f"{folder}/" for folder in inside.parents}
        if not ({str(inside)} | folders) & tree and inside != Path("pdlkit/__init__.py"):
            missing.append(str(inside))
    assert not missing, "\n".join(missing)


def test_import_is_light():
    """`import pdlkit` loads nothing that draws or trains, and does not wake JAX."""
    code = (
        "import json, sys, pdlkit\n"
        "bridge = sys.modules.get('jax._src.xla_bridge')\n"
        "print(json.dumps([list(sys.modules), list(getattr(bridge, '_backends', ()))]))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded, awake = json.loads(printed.stdout.splitlines()[-1])
    assert [name for name in HEAVY if name in loaded] == []
    assert awake == []


def test_every_public_name_is_there_and_explained():
    """Each name in `pdlkit.__all__` can be had, and has a docstring."""
    assert len(set(pdlkit.__all__)) == len(pdlkit.__all__) > 0
    assert [name for name in pdlkit.__all__ if not getattr(pdlkit, name).__doc__] == []
    assert set(pdlkit.__all__) <= set(dir(pdlkit))


def test_public_names_do_not_depend_on_what_was_imported_first():
    """A room that is called like a function in it (`show`) never takes its place."""
    kinds = "print([type(getattr(pdlkit, name)).__name__ for name in pdlkit.__all__])"
    rooms = {room(path) for path in modules()} - {"__init__", "cli"}
    first = [f"import pdlkit.{each}" for each in sorted(rooms)]
    fresh, after = (
        subprocess.run(
            [sys.executable, "-c", "\n".join(["import pdlkit", *before, kinds])],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for before in ([], first)
    )
    assert after == fresh


def test_top_level_holds_only_what_is_needed():
    """At the top stand six things, and what tools demand beside them."""
    top = {name.partition("/")[0] for name in tracked()}
    assert top - TOP - DEMANDED == set()


def test_no_file_knows_this_machine():
    """No file names a folder of someone's machine, or a registry's host."""
    wrong = []
    for name in tracked():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="ignore")
        found = OF_THIS_MACHINE.search(text) or OF_A_REGISTRY.search(text)
        if found:
            wrong.append(f"{name}: {found[0]}")
    assert not wrong, "\n".join(wrong)


def test_lessons_are_as_they_were_rendered():
    """A stored lesson is what `notebooks/render.py` left: still, short and checked."""
    checked = subprocess.run(
        [sys.executable, ROOT / "notebooks/render.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
