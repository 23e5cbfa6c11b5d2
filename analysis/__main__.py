"""`pull-study-analysis`."""

from analysis.cli import main

main()
