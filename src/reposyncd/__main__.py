"""`python -m reposyncd` is `reposyncd`."""

from reposyncd.cli import main

if __name__ == "__main__":
    main()
