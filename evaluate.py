"""Command line: `python evaluate.py --help`."""

from segmentation.commands import evaluate

if __name__ == "__main__":
    evaluate()
