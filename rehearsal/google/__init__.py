"""Google's REST APIs, as far as `infra` and the runner call them. Refuses everything else."""
