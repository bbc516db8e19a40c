"""What the files of deploy/ let pods and roles do: what they need, and no more."""

import json
from typing import Any

import pytest
import yaml
from deploy_parts import CLUSTER_PAGE, DEPLOY, pods, ray_job
from repository import REPOSITORY


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return ray_job()


def test_pods_have_no_more_rights_than_they_need(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    confined = [container["securityContext"] for pod in pods(job) for container in pod["containers"]]
    for context in (*confined, cluster["autoscalerOptions"]["securityContext"]):
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for pod in pods(job):
        user = pod["securityContext"]
        assert user["runAsNonRoot"] is True
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert f"--uid {user['runAsUser']}" in (DEPLOY / "Containerfile").read_text(encoding="utf-8")
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert all("hostPath" not in volume for volume in pod["volumes"])
    assert [pod.get("automountServiceAccountToken") for pod in pods(job)] == [None, False]


def test_the_network_policy_closes_the_ports_of_ray(job: dict[str, Any]) -> None:
    policy = yaml.safe_load((DEPLOY / "network_policy.yaml").read_text(encoding="utf-8"))
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    spec = policy["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    selected = spec["podSelector"]["matchLabels"]
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert selected.items() <= group["template"]["metadata"]["labels"].items()
    # Every port is for the pods themselves; from elsewhere the dashboard alone, and no rule is for everyone.
    own, others = spec["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": selected}}]}
    assert [port["port"] for port in others["ports"]] == [8265]
    assert all(peer["podSelector"]["matchLabels"] for peer in others["from"])
    assert {"job-name": job["metadata"]["name"]} in [peer["podSelector"]["matchLabels"] for peer in others["from"]]
    assert all(rule.get("to") or rule.get("ports") for rule in spec["egress"])
    assert "-f deploy/network_policy.yaml" in CLUSTER_PAGE


def test_the_head_on_aws_may_start_its_workers_and_little_else() -> None:
    policy = json.loads((DEPLOY / "aws_head_policy.json").read_text(encoding="utf-8"))
    actions = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert all(action.startswith("ec2:") and "*" not in action for action in actions)
    cluster = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text(encoding="utf-8"))
    changes = {statement["Sid"]: statement for statement in policy["Statement"] if statement["Sid"] != "See"}
    assert all(
        action.startswith("ec2:Describe")
        for action in actions
        - {"ec2:RunInstances", "ec2:CreateTags"}
        - {action for action in changes["EndItsOwnWorkers"]["Action"]}
    )
    types = {
        kind["node_config"]["InstanceType"]
        for name, kind in cluster["available_node_types"].items()
        if name != cluster["head_node_type"]
    }
    assert {changes["StartWorkers"]["Condition"]["StringEqualsIfExists"]["ec2:InstanceType"]} == types
    own = changes["EndItsOwnWorkers"]["Condition"]["StringEquals"]
    assert own == {"ec2:ResourceTag/ray-cluster-name": cluster["cluster_name"]}
