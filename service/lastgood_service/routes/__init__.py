"""The addresses. Routes parse, call and render; nothing else."""

from lastgood_service.routes import (
    checkpoints,
    copies,
    holds,
    latest,
    log,
    metrics,
    orders,
    page,
    probes,
    retention,
    runs,
)

# `latest` first: its address would otherwise be taken for an id.
ROUTERS = (
    latest.router,
    checkpoints.router,
    orders.router,
    copies.router,
    holds.router,
    retention.router,
    runs.router,
    log.router,
    probes.router,
    metrics.router,
    page.router,
)
