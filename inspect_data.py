"""Command line: `python inspect_data.py --help`."""

from segmentation.commands import inspect

if __name__ == "__main__":
    inspect()
