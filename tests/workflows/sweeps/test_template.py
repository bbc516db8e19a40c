"""The sweep file of `sphere init`: it is valid as it is and with each of its alternatives, and says what fields are."""

from pathlib import Path

import pytest
import yaml
from command_line import sphere, squeezed

from workflows.sweeps.expand import load_sweep
from workflows.sweeps.reading import read_sweep
from workflows.sweeps.spec import SweepSpec
from workflows.sweeps.template import field_description, sweep_template

NO_FIELD_TO_CHANGE = {"published"}
TOP_LEVEL = ("moments: {stored", "contexts:", "keep:", "keep_keys:", "notify:", "plugins:", "watchdog:", "afterwards:")
ENTRIES = (
    *("- {source: meta", "- {source: ./my", "- {dataset: multi", "- {dataset: facts"),
    *("- {name: memit+sphere, hyper", "- {name: memit+sphere, grid"),
)


def uncommented(start: str) -> str:
    """Return the template with the one commented value that starts so in use."""
    lines = sweep_template().splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.lstrip(" ").startswith(f"# {start}")]
    indent, _, rest = lines[place].partition("# ")
    lines[place] = indent + rest
    if start.startswith("moments"):
        lines[place - 1] = "#"
    return "\n".join(lines)


def test_every_field_has_its_description() -> None:
    text = " ".join(sweep_template().replace("#", " ").split())
    for name, field in SweepSpec.model_fields.items():
        if name not in NO_FIELD_TO_CHANGE:
            assert " ".join(str(field.description).split()) in text, name
            assert f"{name}:" in text, name
    assert field_description("resources.replica.num_gpus") in text
    assert "#:" not in sweep_template()
    with pytest.raises(KeyError):
        field_description("resources.replica.gpus")


@pytest.mark.parametrize("start", [*TOP_LEVEL, *ENTRIES])
def test_every_alternative_is_valid(tmp_path: Path, start: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(uncommented(start), encoding="utf-8")
    spec, _ = read_sweep(path)
    plain = SweepSpec.model_validate(yaml.safe_load(sweep_template()))
    assert spec != plain


def test_all_alternatives_of_the_template_are_tried() -> None:
    commented = [line.strip() for line in sweep_template().splitlines()]
    values = [line[2:] for line in commented if line.startswith("# ") and not line.startswith("#  ")]
    alternatives = [text for text in values if text.startswith("- {") or yaml_mapping(text)]
    assert len(alternatives) == len(TOP_LEVEL) + len(ENTRIES)
    assert all(text.startswith((*TOP_LEVEL, *ENTRIES)) for text in alternatives)


def yaml_mapping(text: str) -> bool:
    """Return whether a comment is a field of a sweep file with its value."""
    name = text.partition(":")[0]
    return name in SweepSpec.model_fields


def test_init_writes_a_sweep_that_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, "init", "a study") == 0
    shown = capsys.readouterr().out
    assert "sphere run 'a study/sweep.yaml'" in shown
    sweep = load_sweep(tmp_path / "a study" / "sweep.yaml")
    assert len(sweep.plan.trajectories) == 4
    before = (tmp_path / "a study" / "sweep.yaml").read_bytes()
    assert sphere(monkeypatch, "init", "a study") == 2
    assert squeezed("there is a sweep file already") in squeezed(capsys.readouterr().err)
    assert (tmp_path / "a study" / "sweep.yaml").read_bytes() == before
    assert sphere(monkeypatch, "init") == 0
    assert (tmp_path / "sweep.yaml").read_bytes() == before
    (tmp_path / "file").touch()
    assert sphere(monkeypatch, "init", "file") == 2
    assert squeezed("cannot be written") in squeezed(capsys.readouterr().err)
    assert sphere(monkeypatch, "init", "new.yaml") == 2
    refused = squeezed(capsys.readouterr().err)
    assert squeezed("this names a file") in refused
    assert squeezed("sphere init new") in refused
    assert not (tmp_path / "new.yaml").exists()
