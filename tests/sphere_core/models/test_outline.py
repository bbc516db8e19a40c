"""What is said of a model from its files alone, against its modules; and when nothing is said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import REPOSITORY
from tiny_models import DENSE, FAMILIES, MIXTURES, tiny_model

from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.models.loading import load_skeleton
from sphere_core.models.outline import describe_model, plain_outline


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of every family, with its tokenizer."""
    found = {}
    for name in FAMILIES:
        model, folder = tiny_model(name), tmp_path_factory.mktemp(name)
        model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        found[name] = folder
    return found


@pytest.mark.parametrize("family", DENSE)
def test_files_alone_say_what_the_modules_say(folders: dict[str, Path], family: str) -> None:
    outline = plain_outline(folders[family])
    assert outline is not None
    assert outline == load_skeleton(folders[family]).outline()


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixture_is_left_to_the_modules(folders: dict[str, Path], family: str) -> None:
    assert plain_outline(folders[family]) is None
    outline = describe_model(folders[family])
    assert outline == load_skeleton(folders[family]).outline()
    assert outline.family.name == family
    assert [(site.experts, site.d_out, site.d_in) for site in outline.sites] == [(4, 32, 72)] * 3


def test_the_embedded_model_is_plain() -> None:
    assert plain_outline(shipped_model_dir()) == load_skeleton(shipped_model_dir()).outline()


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"hidden_size": "32"}),
        ("config.json", {"hidden_size": 64}),
        ("config.json", {"num_attention_heads": 5}),
        ("config.json", {"num_hidden_layers": True}),
        ("config.json", {"num_hidden_layers": 9}),
        ("config.json", {"hidden_act": "wobble"}),
        ("config.json", {"model_type": "unheard_of"}),
        ("config.json", {"quantization_config": {"bits": 4}}),
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "own.Model"}}),
        ("config.json", {"vocab_size": 100}),
        ("config.json", {"intermediate_size": 71}),
        ("tokenizer_config.json", {"tokenizer_class": "MyTokenizer"}),
        ("tokenizer.json", {"model": {"type": "NoSuch"}}),
    ],
)
def test_whatever_is_unusual_is_left_to_the_modules(
    folders: dict[str, Path], tmp_path: Path, file: str, values: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in folders["llama"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert plain_outline(folder) is not None
    change(folder, file, **values)
    assert plain_outline(folder) is None


def test_a_mistake_is_told_as_before(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in folders["llama"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder, "config.json", vocab_size=100)
    with pytest.raises(InputError, match="tokenizer of another model"):
        describe_model(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": [7]}, "layer 7 is out of range"),
        ({"layers": [0], "rewrite_module_tmp": "h.{}.mlp"}, "rewrite_module_tmp"),
        ({"layers": [0], "v_loss_layer": 9}, "v_loss_layer"),
    ],
)
def test_hyperparameters_are_held_against_it(folders: dict[str, Path], values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        describe_model(folders["llama"]).check(build_hyperparameters(values, where="test"), where="test")


def test_a_plain_model_is_described_without_torch(folders: dict[str, Path]) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom sphere_core.models.outline import describe_model\n"
        "describe_model(Path(sys.argv[1]))\n"
        "sys.exit(str({'torch', 'transformers'} & set(sys.modules)) if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folders["llama"]], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
