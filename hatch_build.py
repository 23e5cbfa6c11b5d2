"""The build hook of the wheel: Pulumi.yaml, stack files and studies become data of schema."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProjectFiles(BuildHookInterface[Any]):
    """Adds what schema.project_files reads; hatchling finds the class by its base."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install reads those of the checkout."""
        if version == "editable":
            return
        root = Path(self.root)
        for path in [*root.glob("Pulumi*.yaml"), *root.glob("studies/*.yaml")]:
            name = path.relative_to(root).as_posix()
            build_data["force_include"][str(path)] = f"schema/files/{name}"
