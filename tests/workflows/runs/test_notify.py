"""`notify:`: messages at the end of a run, received by a real HTTP server on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.runs.notify import Notifier
from workflows.runs.sweep_file import run_sweep_file
from workflows.sweeps.expand import load_sweep

pytest.importorskip("apprise", reason="needs apprise")
ONE = {"methods": ["memit"], "seeds": [0], "evaluators": {"geometry": {"spectra": False}}}


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of a server in Apprise's form, and what it has received."""
    messages: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/in" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/in", messages
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_run_that_ends_says_so_once(
    tmp_path: Path, received: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, messages = received
    monkeypatch.setenv("SPHERE_NOTIFY", address)
    path, root = write_sweep(tmp_path, tiny(**ONE, notify={"to": ["$SPHERE_NOTIFY"]})), tmp_path / "root"
    assert run_sweep_file(sweep=path, root=str(root), local=True).exit_code == 0
    (message,) = messages
    assert (message["title"], message["type"]) == ("SPHERE: tiny done", "success")
    assert message["message"].splitlines() == ["1 done", "6 of 6 edits", str(root)]
    # There is nothing left to run, and nothing to say.
    assert run_sweep_file(sweep=path, root=str(root), local=True).exit_code == 0
    assert len(messages) == 1
    assert address not in (root / "sweep.yaml").read_text(encoding="utf-8")


def test_a_failure_is_sent_with_its_reason_and_an_address_that_fails_is_a_warning(
    tmp_path: Path, received: tuple[str, list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    address, messages = received
    settings = tiny(**ONE, notify={"to": [address, address.replace("/in", "/broken")], "events": ["failed"]})
    sweep = load_sweep(write_sweep(tmp_path, settings))
    notifier = Notifier.of(sweep)
    notifier.ended(Storage(tmp_path / "root"), sweep.plan, "done")
    assert messages == []
    notifier.ended(Storage(tmp_path / "root"), sweep.plan, "failed", "no space left")
    assert messages[0]["message"].startswith("no space left\n1 planned\n0 of 6 edits\n")
    assert {one["type"] for one in messages} == {"failure"}
    assert "could not be sent to every address" in caplog.text


@pytest.mark.parametrize(
    ("to", "what"),
    [("$SPHERE_UNSET", "SPHERE_UNSET is not set"), ("nosuch://secret@host", "of the form 'nosuch://...'")],
)
def test_an_address_that_cannot_be_used_stops_the_run_before_anything_is_written(
    tmp_path: Path, to: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPHERE_UNSET", raising=False)
    path = write_sweep(tmp_path, tiny(**ONE, notify={"to": [to]}))
    with pytest.raises(InputError) as caught:
        run_sweep_file(sweep=path, root=str(tmp_path / "root"), local=True)
    assert what in caught.value.what
    assert "key notify.to[0]" in str(caught.value.where)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "root").exists()
