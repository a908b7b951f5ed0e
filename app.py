"""Command line: `python app.py --help`."""

from segmentation.commands import app as main

if __name__ == "__main__":
    main()
