"""`python -m reposyncd` is `reposyncd`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working directory, which may be a repository: none of its code is ever imported

from reposyncd.cli import main

if __name__ == "__main__":
    main()
