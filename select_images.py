"""Command line: `python select_images.py --help`."""

from segmentation.commands import select

if __name__ == "__main__":
    select()
