"""`python -m experiment`."""

from experiment.cli import main

main()
