"""Run every lesson and store what it shows: `python notebooks/render.py`.

Each notebook runs in a fresh kernel, with still pictures, and is written back
in one fixed form. Rendering again changes no file: what may differ from run to
run (a picture of measured times, a cell tagged `nbval-ignore-output`) is kept as
it was stored, as long as the notebook's code and its other outputs are the same.
`--fresh` stores everything anew, after the package draws differently.
`--check` runs nothing and says what is wrong with the notebooks as they are.
"""

import argparse
import base64
import hashlib
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
STILL = {"PDLKIT_RENDER": "static", "JAX_PLATFORMS": "cpu"}
VARIES = "nbval-ignore-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
LONGEST_CELL = 9  # lines
OF_THIS_MACHINE = re.compile(
    r"\b0x[0-9a-f]{6,}|(?<![\w.+/=-])/(?:tmp|home|root|work|Users)/|site-packages"
)


def main() -> int:
    """Render, or check, the notebooks that were named; by default all of them."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    options.add_argument("--check", action="store_true", help="run nothing, list what is wrong")
    options.add_argument("--fresh", action="store_true", help="keep no stored output")
    args = options.parse_args()
    if args.check:
        wrong = [f"{path.name}: {fault}" for path in args.notebooks for fault in faults(path)]
        print("\n".join(wrong) or f"{len(args.notebooks)} notebooks are as they should be")
        return int(bool(wrong))
    os.environ.update(STILL)
    for path in args.notebooks:
        print(path.name, "changed" if render(path, fresh=args.fresh) else "same", flush=True)
    (HERE / "start.png").write_bytes(front_picture(HERE / "00_start.ipynb"))
    return 0


def render(path: Path, *, fresh: bool = False) -> bool:
    """Run one notebook and store its outputs; return whether the file changed."""
    stored, new = read(path), read(path)
    NotebookClient(
        new, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    new.metadata["pdlkit"] = {"code": digest(new)}
    if not fresh and stored.metadata.get("pdlkit") == new.metadata["pdlkit"]:
        keep(settled(stored), settled(new))
    text = written(new)
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        path.write_text(text, encoding="utf-8")
    return changed


def front_picture(path: Path) -> bytes:
    """Return the last picture of a notebook: lesson 00's stands in the README."""
    shown = [output.get("data", {}) for cell in code_cells(read(path)) for output in cell.outputs]
    return base64.b64decode([data["image/png"] for data in shown if "image/png" in data][-1])


def read(path: Path):
    """Return a notebook as nbformat holds it."""
    return nbformat.read(path, as_version=4)


def written(notebook) -> str:
    """Return a notebook in the one form in which it is stored."""
    return nbformat.writes(settled(notebook)) + "\n"


def digest(notebook) -> str:
    """Return a fingerprint of a notebook's code."""
    code = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def code_cells(notebook) -> list:
    """Return the cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def settled(notebook):
    """Give a notebook fixed ids, counts and metadata, in place; return it."""
    notebook.nbformat_minor = 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "pdlkit": notebook.metadata.get("pdlkit", {}),
        }
    )
    for place, cell in enumerate(notebook.cells):
        cell.id = f"cell-{place:02}"
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in ("tags",) if cell.metadata.get(key)}
        )
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
        cell.outputs = joined(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


def joined(outputs: list) -> list:
    """Return outputs without stderr, printed text in one piece however it came."""
    kept = []
    for output in outputs:
        if output.output_type != "stream":
            kept.append(output)
        elif output.name == "stdout":
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
            else:
                kept.append(output)
    return kept


def keep(stored, new) -> None:
    """Put stored outputs back wherever only what may vary differs."""
    for before, now in zip(code_cells(stored), code_cells(new), strict=True):
        varies = VARIES in now.metadata.get("tags", ())
        if varies or without_images(before.outputs) == without_images(now.outputs):
            now.outputs = before.outputs


def without_images(outputs: list) -> list:
    """Return outputs with the names of images, but not their bytes."""
    plain = [nbformat.from_dict(output) for output in outputs]
    for output in plain:
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                output.data[kind] = ""
    return plain


def faults(path: Path) -> list[str]:
    """Return what is wrong with a stored notebook, one sentence each."""
    notebook, found = read(path), []
    if notebook.metadata.get("pdlkit") != {"code": digest(notebook)}:
        found.append("its code changed since it was rendered: python notebooks/render.py")
    for count, cell in enumerate(code_cells(notebook), start=1):
        lines = len(cell.source.splitlines())
        if not 0 < lines <= LONGEST_CELL:
            found.append(f"[{count}] has {lines} lines, not 1 to {LONGEST_CELL}")
        found += [f"[{count}] {fault}" for output in cell.outputs for fault in in_output(output)]
    if "pdl.check" not in (code_cells(notebook) or [{"source": ""}])[-1]["source"]:
        found.append("its last cell does not call pdl.check")
    if path.read_text(encoding="utf-8") != written(notebook):
        found.append("not in the form render.py writes: python notebooks/render.py")
    return found


def in_output(output) -> list[str]:
    """Return what is wrong with one output."""
    data = output.get("data", {})
    texts = [output.get("text", ""), *(data[kind] for kind in data if kind.startswith("text/"))]
    alt = data.get("text/plain", "")
    machine = [found[0] for text in texts for found in [OF_THIS_MACHINE.search(text)] if found]
    found = [f"shows what only this machine knows: {text}" for text in machine]
    if output.output_type == "error":
        found.append(f"failed: {output.ename}: {output.evalue}")
    if WIDGET in data:
        found.append("stores a widget, which nobody can draw later")
    if any(kind.startswith("image/") for kind in data) and (not alt or alt.startswith("<Figure")):
        found.append(f"has a picture whose text says nothing: {alt!r}")
    return found


if __name__ == "__main__":
    sys.exit(main())
