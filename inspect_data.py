"""Command line: `python inspect_data.py --help`."""

from segmentation.commands import inspect as main

if __name__ == "__main__":
    main()
