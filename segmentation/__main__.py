"""`python -m segmentation` is the command `segmentation`."""

from segmentation.console import main

main()
