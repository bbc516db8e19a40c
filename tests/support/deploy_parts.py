"""The files of deploy/ as data."""

from typing import Any

import yaml
from repository import REPOSITORY

__all__ = ["CLUSTER_PAGE", "DEPLOY", "pods", "ray_job"]

DEPLOY = REPOSITORY / "deploy"
CLUSTER_PAGE = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")


def ray_job() -> dict[str, Any]:
    """Return KubeRay's manifest."""
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text(encoding="utf-8"))


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pods of the head and of every group of workers."""
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
