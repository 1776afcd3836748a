"""`python -m lesionlens`: the command line, for programs that start it with their own Python."""

from __future__ import annotations

import sys

from lesionlens.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
