"""Command line: `python predict.py --help`."""

from segmentation.commands import predict

if __name__ == "__main__":
    predict()
