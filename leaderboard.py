"""Command line: `python leaderboard.py --help`."""

from segmentation.commands import leaderboard as main

if __name__ == "__main__":
    main()
