"""Start of `./run` in Python: see scripts/workspace/. Called by the shell script as `run.py PYTHON COMMAND…`."""

import sys

from workspace.main import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[2:], python=sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
