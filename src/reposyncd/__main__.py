"""`python -m reposyncd` is `reposyncd`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working directory: no code of a repository one happens to be in is ever run

from reposyncd.cli import main

if __name__ == "__main__":
    main()
