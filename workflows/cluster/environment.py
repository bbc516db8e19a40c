"""The environment that Ray reads once, when it is imported: set it before. Imports no Ray itself."""

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
    """Return why Ray will send no token, as a clause; None where it finds one.

    Looked for in the environment, else in the file it names, else in the home folder. An empty one is none, and any
    mode but `token` keeps it back.
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
    """Ask for loopback, token authentication and no telemetry of a cluster started here, by this process.

    A token that the environment names is used. Otherwise there is a random one that is written nowhere; Ray
    left alone would write one into the home folder.
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
    """Ask for token authentication towards a cluster that runs already, where there is a token; no telemetry."""
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if has_token(environment):
        environment.setdefault("RAY_AUTH_MODE", _TOKEN_MODE)
