"""The other end of `fresh`: `python -m pdlkit.training.fresh_child FOLDER`.

Its parent has pinned it and set its environment, so JAX may wake at once.
"""

import json
import pickle
import sys
from pathlib import Path

from pdlkit.training.fresh import ANSWER, JOB
from pdlkit.training.stopwatch import time_job


def main(folder: Path) -> None:
    """Time what the folder's job says, and leave the answer beside it."""
    timings = time_job(pickle.loads((folder / JOB).read_bytes()))
    (folder / ANSWER).write_text(json.dumps([timing._asdict() for timing in timings]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
