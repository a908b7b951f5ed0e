"""Command line: `python predict.py --help`."""

from segmentation.commands import predict as main

if __name__ == "__main__":
    main()
