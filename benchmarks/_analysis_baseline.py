"""What the analysis is measured against: start Python, import pandas, decode each line once.

Run as a program of its own with the file as argument.
"""

import sys
from pathlib import Path

import msgspec
import pandas as pd


class _Metadata(msgspec.Struct):
    name: str = ""
    uid: str = ""


class _Source(msgspec.Struct):
    component: str = ""
    host: str = ""


class _Involved(msgspec.Struct):
    kind: str = ""
    name: str = ""
    uid: str = ""


class _Event(msgspec.Struct):
    metadata: _Metadata
    involvedObject: _Involved  # noqa: N815 (the API's name)
    reason: str = ""
    message: str = ""
    source: _Source | None = None
    firstTimestamp: str | None = None  # noqa: N815
    eventTime: str | None = None  # noqa: N815
    count: int = 1


def main(path: Path) -> int:
    """Decode; gives the number of lines."""
    decode = msgspec.json.Decoder(_Event).decode
    with path.open("rb") as lines:
        return sum(1 for line in lines if decode(line).reason)


if __name__ == "__main__":
    print(main(Path(sys.argv[1])), pd.__version__)
