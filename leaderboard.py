"""Command line: `python leaderboard.py --help`."""

from segmentation.commands import leaderboard

if __name__ == "__main__":
    leaderboard()
