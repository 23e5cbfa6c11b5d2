"""`pull-study`."""

from experiment.cli.app import main

main()
