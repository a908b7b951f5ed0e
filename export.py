"""Command line: `python export.py --help`."""

from segmentation.commands import export as main

if __name__ == "__main__":
    main()
