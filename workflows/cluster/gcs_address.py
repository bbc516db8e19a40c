"""Check a cluster's address before Ray tries it, which takes a quarter of an hour."""

import socket

from sphere_core.foundation.errors import InputError

__all__ = ["no_cluster", "require_answer"]

_SECONDS = 10.0


def require_answer(address: str) -> None:
    """Raise InputError for an invalid address, or if nothing answers there; `auto` is left to Ray."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise no_cluster(address, "it is not of the form HOST:PORT")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS):
            return
    except OSError as error:
        raise no_cluster(address, f"no answer: {error}") from error


def no_cluster(address: str, why: str) -> InputError:
    """Return the error for an address without a cluster."""
    return InputError(
        f"no Ray cluster at '{address}': {why}",
        where="--address",
        remedy="give the head's HOST:6379, or `auto` on one of its nodes, with the token of the cluster in "
        "RAY_AUTH_TOKEN_PATH; from elsewhere `sphere submit` reaches it through its Jobs API",
    )
