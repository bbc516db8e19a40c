"""What an error shows of texts that users wrote."""

from pathlib import Path

import pytest
from command_line import sphere


@pytest.mark.parametrize(
    "arguments",
    [["plan", "sweep.yaml"], ["status", "no\x1b]0;title\x07such"], ["plan", "a\x9b31mb.yaml"]],
)
def test_escape_sequences_of_users_texts_are_not_sent_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text('"metho\\e[31mds": [memit]\nname: x\n')
    assert sphere(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert "error: " in shown
    assert "where:" in shown
    assert all(line.isprintable() for line in shown.splitlines()), shown
