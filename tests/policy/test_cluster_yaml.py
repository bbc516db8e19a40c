"""cluster.yaml is valid for Ray's own launcher, keeps its token in a file and its head free of work."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from repository import REPOSITORY

TEXT = (REPOSITORY / "cluster.yaml").read_text(encoding="utf-8")
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
START_COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")


def block(name: str) -> str:
    """Return the lines between the two marks of a named block."""
    return TEXT.split(f"# >>> {name}\n")[1].split(f"# <<< {name}\n")[0]


def on_premise_text() -> str:
    """Do what the file tells the reader to do: drop the block for AWS, uncomment the other."""
    uncommented = re.sub(r"^# ?", "", block("on-premise"), flags=re.MULTILINE)
    return TEXT.replace(block("aws"), "").replace(block("on-premise"), uncommented)


VARIANTS = {"aws": TEXT, "on-premise": on_premise_text()}


@pytest.fixture(params=sorted(VARIANTS))
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each variant of the file, as read from YAML."""
    return yaml.safe_load(VARIANTS[request.param])


def ray_starts(config: dict[str, Any], key: str) -> str:
    """Return the one command of a list that starts Ray."""
    (command,) = [command for command in config[key] if "ray start" in command]
    return command


def test_variants_are_what_they_say() -> None:
    aws, local = yaml.safe_load(VARIANTS["aws"]), yaml.safe_load(VARIANTS["on-premise"])
    assert (aws["provider"]["type"], local["provider"]["type"]) == ("aws", "local")
    assert len(local["provider"]["worker_ips"]) == local["max_workers"]
    # Ray refuses node types for machines of one's own; its schema does not.
    assert "available_node_types" not in local
    assert "head_node_type" not in local


def test_valid_against_the_schema(config: dict[str, Any]) -> None:
    jsonschema.validate(config, SCHEMA)


def test_valid_for_the_launcher(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["head_start_ray_commands"] == config["head_start_ray_commands"]
    assert prepared["setup_commands"] is not None


def test_unknown_key_is_refused(config: dict[str, Any]) -> None:
    config["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(config, SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


def test_wrong_head_type_is_refused() -> None:
    config = yaml.safe_load(TEXT)
    config["head_node_type"] = "no such type"
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(config))


def test_token_is_a_file_and_never_inline(config: dict[str, Any]) -> None:
    # RAY_AUTH_TOKEN=... would be the token itself; RAY_AUTH_TOKEN_PATH names the file.
    assert re.search(r"RAY_AUTH_TOKEN\b", yaml.safe_dump(config)) is None
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in config["setup_commands"])
    for key in START_COMMANDS:
        command = ray_starts(config, key)
        before_start = command.partition("ray start")[0]
        assert re.search(r"\bexport .*RAY_AUTH_MODE=token ", before_start)
        # A job is started as `python`, which must be the one with this project.
        assert before_start.index('PATH="$HOME/sphere/.venv/bin:$PATH"') > before_start.index("export")
        assert 'RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"' in before_start


def test_telemetry_is_off(config: dict[str, Any]) -> None:
    for key in START_COMMANDS:
        before_start = ray_starts(config, key).partition("ray start")[0]
        assert "RAY_USAGE_STATS_ENABLED=0" in before_start
        assert "HF_HUB_DISABLE_TELEMETRY=1" in before_start
    assert "--disable-usage-stats" in ray_starts(config, "head_start_ray_commands")


def test_head_takes_no_work(config: dict[str, Any]) -> None:
    command = ray_starts(config, "head_start_ray_commands")
    assert "--num-cpus=0 --num-gpus=0" in command
    assert "--dashboard-host=127.0.0.1" in command
    assert "0.0.0.0" not in yaml.safe_dump(config)


def test_node_types_on_aws() -> None:
    config = yaml.safe_load(TEXT)
    head = config["available_node_types"][config["head_node_type"]]
    # On a cloud these numbers override the flags of `ray start`.
    assert (head["resources"], head["max_workers"]) == ({"CPU": 0, "GPU": 0}, 0)
    assert "InstanceMarketOptions" not in head["node_config"]
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    assert workers
    for kind in workers:
        assert kind["resources"]["GPU"] > 0
        assert kind["min_workers"] <= kind["max_workers"] <= config["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_roles_groups_and_metadata_on_aws_are_given_and_not_made_by_ray() -> None:
    config = yaml.safe_load(TEXT)
    kinds = config["available_node_types"]
    for kind in kinds.values():
        node = kind["node_config"]
        # Ray's own group is open to ssh from everywhere, and is made unless every kind of node names one.
        assert node["SecurityGroupIds"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(device["Ebs"]["Encrypted"] is True for device in node["BlockDeviceMappings"])
    roles = {name: kind["node_config"].get("IamInstanceProfile") for name, kind in kinds.items()}
    assert roles == {"head": {"Name": "sphere-head"}, "gpu_worker": None}
    assert "security_group" not in config["provider"]
    # What Ray looks for in this file is the profile of the head: with it, it makes no role.
    assert "IamInstanceProfile" in kinds[config["head_node_type"]]["node_config"]


def test_workers_watch_for_the_notice_of_their_cloud(config: dict[str, Any]) -> None:
    script = "~/sphere/deploy/spot_notice.sh"
    assert script in config["file_mounts"]
    after_start = ray_starts(config, "worker_start_ray_commands").partition("ray start")[2]
    assert script in after_start
    assert 'RAY_ADDRESS="$RAY_HEAD_IP:6379"' in after_start
    assert "spot_notice" not in ray_starts(config, "head_start_ray_commands")


def test_limits_and_storage(config: dict[str, Any]) -> None:
    assert any("mountpoint -q /mnt/sphere" in command for command in config["initialization_commands"])
    for key in START_COMMANDS:
        command = ray_starts(config, key)
        assert "ulimit -n 65536;" in command
        (size,) = re.findall(r"--object-store-memory=(\d+)", command)
        assert int(size) <= 500_000_000


def test_nodes_install_the_project_from_its_lock(config: dict[str, Any]) -> None:
    installs = [command for command in config["setup_commands"] if "pip install" in command]
    assert installs
    assert all("-c constraints.txt" in command for command in installs)
    for remote, local in config["file_mounts"].items():
        assert local.startswith("~") or (REPOSITORY / local).exists(), f"{remote} has no source {local}"


def test_no_account_is_named() -> None:
    assert set(re.findall(r"\bami-\w+", TEXT)) == {"ami-" + "0" * 17}
    assert re.search(r"\b\d{12}\b|AKIA|\b(fs|subnet|sg|vpc)-[0-9a-f]{8,}", TEXT) is None
