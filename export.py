"""Command line: `python export.py --help`."""

from segmentation.commands import export

if __name__ == "__main__":
    export()
