"""Command line: `python train.py --help`."""

from segmentation.commands import train as main

if __name__ == "__main__":
    main()
