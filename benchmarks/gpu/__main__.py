"""`python -m benchmarks.gpu`: look for what the benchmark imports before importing any of it, then run it."""

import sys
from importlib import import_module

from benchmarks.gpu.needed import missing_modules, screen_of

if __name__ == "__main__":
    missing = missing_modules()
    if missing:
        sys.stderr.write(screen_of(missing))
        sys.exit(2)
    import_module("benchmarks.gpu.runner").main()
