"""Command line: `python select_images.py --help`."""

from segmentation.commands import select as main

if __name__ == "__main__":
    main()
