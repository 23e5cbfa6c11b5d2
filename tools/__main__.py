"""`python3 -m tools`: setup, or one clear error on a Python that is too old."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is the one file that an older Python reads
    sys.exit(
        f"{sys.executable} is Python {sys.version.split()[0]}, and this project needs 3.11 or "
        "later.\n  Fix: make setup PYTHON=/path/to/python3.11"
    )

from tools.setup import main

sys.exit(main(sys.argv[1:]))
