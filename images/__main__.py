"""`pull-study-images`."""

from images.cli import main

main()
