"""Command line: `python benchmark.py --help`."""

from segmentation.commands import benchmark

if __name__ == "__main__":
    benchmark()
