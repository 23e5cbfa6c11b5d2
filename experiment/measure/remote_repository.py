"""What a stack's remote repository holds: asked before each trial and after the last.

The list distinguishes pulls through a cold cache from those through a warm one
(experiment.collect.cache_states). A list that cannot be read leaves that unproved and ends nothing.
"""

from collections.abc import Callable

from experiment.errors import RunError
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import repository_path
from experiment.waiting import now
from schema.run_records import RepositoryRecord

_PAGE = "1000"
"""Most images in a page (discovery document of artifactregistry v1)."""


class RemoteRepository:
    """Lists one repository.

    Args:
        project: Google Cloud project id.
        name: as images begin with it, REGION-docker.pkg.dev/PROJECT/REPOSITORY.
        attempt: which one of the run this is.
        add: keeps a record.
        log: keeps a line.

    Raises:
        PreflightError: there are no Google credentials.
    """

    def __init__(
        self,
        project: str,
        name: str,
        attempt: int,
        add: Callable[[RepositoryRecord], None],
        log: Callable[[str], None],
    ) -> None:
        self._api = GoogleApi(project)
        self._path = f"{repository_path(name)}/dockerImages"
        self._attempt = attempt
        self._add = add
        self._log = log

    def look(self, before_trial: int | None) -> None:
        """Record what it holds before a trial; None after the last."""
        try:
            images = list(
                self._api.get_all("ARTIFACT_REGISTRY", self._path, "dockerImages", pageSize=_PAGE)
            )
        except RunError as error:
            self._log(f"the remote repository could not be listed: {error.problem}")
            return
        digests = {str(image["uri"]).rpartition("@")[2] for image in images}
        self._add(
            RepositoryRecord(
                attempt=self._attempt,
                before_trial=before_trial,
                at=now(),
                digests=tuple(sorted(digests)),
            )
        )

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
