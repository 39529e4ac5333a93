"""The other end of `fresh`: `python -m pdlkit.training.fresh_child FOLDER`.

Its parent has pinned it and set its environment, so JAX may wake at once.
"""

import json
import pickle
import sys
from pathlib import Path

from pdlkit.training.fresh import ANSWER, JOB


def main(folder: Path) -> None:
    """Do what the folder's job says, and leave the answer beside it."""
    answer = pickle.loads((folder / JOB).read_bytes())()
    (folder / ANSWER).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
