"""`pull-study-rehearsal`."""

from rehearsal.cli import main

main()
