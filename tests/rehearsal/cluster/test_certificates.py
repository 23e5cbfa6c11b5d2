from __future__ import annotations

import stat
from pathlib import Path

from rehearsal.cluster.certificates import make_authority


def test_a_key_is_written_with_mode_0600(tmp_path: Path) -> None:
    make_authority().write(tmp_path, "ca")
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
