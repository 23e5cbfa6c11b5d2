"""`python -m experiment`."""

from experiment.cli.app import main

main()
