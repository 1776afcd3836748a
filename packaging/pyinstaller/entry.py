"""What the packed program starts."""

import multiprocessing
import sys

from lesionlens.__main__ import run

if __name__ == "__main__":
    multiprocessing.freeze_support()  # workers of `batch` are this program again
    sys.exit(run())
