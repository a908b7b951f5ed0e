"""Command line: `python evaluate.py --help`."""

from segmentation.commands import evaluate as main

if __name__ == "__main__":
    main()
