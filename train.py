"""Command line: `python train.py --help`."""

from segmentation.commands import train

if __name__ == "__main__":
    train()
