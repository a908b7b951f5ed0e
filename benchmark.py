"""Command line: `python benchmark.py --help`."""

from segmentation.commands import benchmark as main

if __name__ == "__main__":
    main()
