"""The environment variables that Ray reads once, at import: set them before. Imports no Ray itself."""

import os
import secrets
from collections.abc import Mapping, MutableMapping
from pathlib import Path

__all__ = ["has_token", "missing_token", "prepare_client_environment", "prepare_cluster_environment"]

_TOKEN_MODE = "token"


def has_token(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether Ray will send a token once `prepare_client_environment` is done."""
    return missing_token(environment) is None


def missing_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return why Ray will send no token, as a clause; None if it finds one.

    Looks in the environment, else in the file named there, else in the home folder. An empty token does not count, and
    any mode but `token` disables it.
    """
    mode = environment.get("RAY_AUTH_MODE", _TOKEN_MODE)
    if mode.lower() != _TOKEN_MODE:
        return f"RAY_AUTH_MODE={mode} sends no token"
    if environment.get("RAY_AUTH_TOKEN", "").strip():
        return None
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path(environment.get("HOME", "~")).expanduser() / ".ray" / "auth_token"
    try:
        return None if path.read_bytes().strip() else f"the token file {path} is empty"
    except FileNotFoundError:
        return "there is no token"
    except OSError as error:
        return f"the token file {path} cannot be read ({error.strerror})"


def prepare_cluster_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set loopback, token authentication and no telemetry for a cluster that this process starts.

    Uses a token that the environment names. Otherwise it makes a random one that is written nowhere; Ray itself would
    write one into the home folder.
    """
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Despite its name the switch works everywhere: off, all of Ray's ports bind to 127.0.0.1 instead of 0.0.0.0.
    environment.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    environment.setdefault("RAY_AUTH_MODE", _TOKEN_MODE)
    if environment["RAY_AUTH_MODE"].lower() == _TOKEN_MODE and not (
        environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH")
    ):
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def prepare_client_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set token authentication for a running cluster, if there is a token, and no telemetry."""
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if has_token(environment):
        environment.setdefault("RAY_AUTH_MODE", _TOKEN_MODE)
