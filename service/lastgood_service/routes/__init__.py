"""The addresses. Routes parse, call and render; nothing else."""

from lastgood_service.routes import checkpoints, latest, log, page, probes, runs

# `latest` first: its address would otherwise be taken for an id.
ROUTERS = (latest.router, checkpoints.router, runs.router, log.router, probes.router, page.router)
