"""The command line: `pdlkit lab`, `pdlkit run`, `pdlkit doctor`."""

import argparse
import importlib
import importlib.metadata
import sys


class Refused(Exception):
    """What was asked of the command line cannot be done; the message says why."""


def main(argv: list[str] | None = None) -> int:
    """Run the command that was typed; return what the shell is told."""
    words = sys.argv[1:] if argv is None else argv
    cut = words.index("--") if "--" in words else len(words)
    args = parser().parse_args(words[:cut])
    args.rest = words[cut + 1 :]
    # A command's module is imported only when it is asked for, so that help is quick.
    command = importlib.import_module(f"pdlkit.cli.{args.command}")
    try:
        return command.main(args)
    except Refused as refused:
        print(f"pdlkit: {refused}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the commands and what each may be told."""
    top = argparse.ArgumentParser(
        prog="pdlkit", description="Parallel deep learning that you can run, see and check."
    )
    version = importlib.metadata.version("pdlkit")
    top.add_argument("--version", action="version", version=f"pdlkit {version}")
    commands = top.add_subparsers(dest="command", metavar="command", required=True)

    lab = commands.add_parser(
        "lab",
        help="open JupyterLab on a lesson",
        epilog="Words after -- go to JupyterLab: pdlkit lab 00 -- --no-browser",
    )
    lab.add_argument("lesson", nargs="?", default="00", help="its number or a notebook's path")

    run = commands.add_parser("run", help="run a lesson here, its pictures as text")
    run.add_argument("lesson", nargs="?", default="00", help="its number or a notebook's path")
    run.add_argument("--list", action="store_true", help="list the lessons there are")

    commands.add_parser("doctor", help="say what is here, what is missing and what mends it")
    return top
