"""`python -m segmentation` is the command `segmentation`."""

from segmentation.console import main

if __name__ == "__main__":
    main()
