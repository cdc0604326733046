"""Remakes the sample models, all or those named, then checks them and writes the README's table.

    python models/_train/make.py            # everything, about a minute
    python models/_train/make.py digits     # one

Each model's own train.py does the work; it finds the modules of this directory because it is run from here.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    names = sys.argv[1:] or sorted(script.parent.name for script in HERE.parent.glob("*/train.py"))
    # One thread: the order of floating-point sums, and with it the last bits of the weights, stays the same.
    environment = os.environ | {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    for name in names:
        subprocess.run([sys.executable, HERE.parent / name / "train.py"], env=environment, check=True)
    subprocess.run([sys.executable, HERE / "check.py"], env=environment, check=True)
    subprocess.run([sys.executable, HERE / "table.py"], env=environment, check=True)


if __name__ == "__main__":
    main()
