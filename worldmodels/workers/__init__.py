"""Processes that play and dream: this machine's, or a Ray cluster's, behind the same calls."""

from worldmodels.workers.local import Workers


def make_workers(num: int, ray: str = "", deadline: float = 900.0) -> Workers:
    """Workers of the cluster at `ray` ("auto" or an address), or `num` of this machine if it is empty.

    Raises:
        UserError: if there is no such cluster, or Ray is not installed.
    """
    if not ray:
        return Workers(num, deadline)
    from worldmodels.workers.cluster import RayWorkers  # late: torch, which whoever only starts stages does not load

    return RayWorkers(ray, deadline)
