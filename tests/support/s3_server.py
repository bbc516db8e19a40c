"""An S3-compatible server on loopback, which the environment names as the endpoint and holds the credentials of."""

import contextlib
import logging
import threading
from collections.abc import Iterator

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

__all__ = ["s3_server"]


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Serve S3 while the context lasts and yield the URL of a bucket.

    Requests are answered one at a time: what the server looks at and what it then does are one step, as on S3.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.port}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", "someone")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "something")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            boto3.client("s3").create_bucket(Bucket="sweeps")
            yield "s3://sweeps"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
