"""What came out: tables, plots and reports from run folders on disk; `load` gives DataFrames."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.frames import Frames, load

__all__ = ["Frames", "load"]


def __getattr__(name: str) -> Any:
    """Import pandas when a frame is asked for: it takes a second, which --help must not cost."""
    if name in __all__:
        from analysis import frames  # noqa: PLC0415 (see above)

        return getattr(frames, name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
