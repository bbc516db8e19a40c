"""Plugin files: what is found in them, and what is said of faulty ones. All of it before any work."""

from dataclasses import fields
from pathlib import Path

import pytest
from plugin_parts import guide_plugin, install_package

from sphere_core.editors.shaping import Shaping
from sphere_core.foundation.errors import InputError
from sphere_core.methods import resolve_method
from sphere_core.methods.build_inputs import BuildInputs
from sphere_core.moments.record import SecondMoments
from sphere_core.plugins import NO_PLUGINS, Plugins
from sphere_core.plugins.module import package_digest
from sphere_core.solver.placement import BESIDE_LAYERS


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def resolved(path: Path, method: str = "memit+cap") -> None:
    found = resolve_method(method, plugins=Plugins.of_files([path]))
    found.check(found.from_preset("factworld"), where="test")


GUIDE = guide_plugin()
FAULTS = {
    "syntax": ("def f(:\n", "is not valid Python", "line 1"),
    "import": ("import math\nimport no_such_module_at_all\n", "No module named", "line 2"),
    "beside": ("from .helper import X\n", "relative import", "line 1"),
    "own path": ("import math\ndef f():\n    return __file__\n", "uses __file__", "line 3"),
    "raises": ("x = 1\ny = 1 / 0\n", "ZeroDivisionError", "line 2"),
    "exit": ("raise SystemExit(3)\n", "SystemExit", "line 1"),
    "empty": ("x = 1\n", "has no rows", "mine.py"),
    "list": ("REGULARIZERS = []\n", "REGULARIZERS of the plugin 'mine.py' is a list", "mine.py"),
    "plus": ("REGULARIZERS = {'a+b': 1}\n", "has the name 'a+b'", "mine.py"),
    "class": ("class Cap: pass\nREGULARIZERS = {'cap': Cap}\n", "not a RegularizerRow", "REGULARIZERS['cap']"),
    "taken": (GUIDE.replace('"cap"', '"sphere"'), "the name 'sphere' is taken", "REGULARIZERS"),
    "signature": (GUIDE.replace("update, write, state", "update"), "`apply` with the parameters (update)", "'cap'"),
    "no apply": (GUIDE.replace("def apply", "def aply"), "without `apply`", "'cap'"),
    "not stateless": (GUIDE.replace("(Stateless)", ""), "without `remember`", "'cap'"),
    "constructor": (GUIDE.replace("settings.share", "settings.shar"), "AttributeError", "'cap'"),
    "uncited": (GUIDE.replace('source="chosen by hand"', 'source=""'), "default without a source", "'cap'"),
    "no filter": (GUIDE.replace(", filter=Cap", ""), "neither `filter` nor `read_out`", "'cap'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_plugin_is_named_with_its_place(tmp_path: Path, fault: str) -> None:
    text, what, where = FAULTS[fault]
    with pytest.raises(InputError) as raised:
        resolved(written(tmp_path, text))
    assert what in raised.value.what
    assert where in str(raised.value.where)
    assert "mine.py" in str(raised.value)
    assert raised.value.remedy


def test_the_guide_names_a_method_with_settings_of_its_own(tmp_path: Path) -> None:
    plugins = Plugins.of_files([written(tmp_path, GUIDE)])
    method = resolve_method("alphaedit+cap+sphere", plugins=plugins)
    values = method.from_preset("factworld", {"cap": {"share": 0.5}, "strength": 0.25})
    assert values.settings == {"cap": {"share": 0.5}}
    assert values.strength == 0.25
    assert method.from_preset("factworld").settings == {"cap": {"share": 0.01}}
    assert set(method.code) == {"cap"}
    with pytest.raises(InputError, match="unknown setting of 'cap' 'shar'") as raised:
        method.from_preset("factworld", {"cap": {"shar": 0.5}})
    assert "did you mean 'share'" in str(raised.value.remedy)
    with pytest.raises(InputError, match="should be less than or equal to 1"):
        method.from_preset("factworld", {"cap": {"share": 7}})


def test_a_mistyped_name_gets_that_of_a_plugin(tmp_path: Path) -> None:
    plugins = Plugins.of_files([written(tmp_path, GUIDE)])
    with pytest.raises(InputError) as raised:
        resolve_method("memit+cab", plugins=plugins)
    assert "did you mean 'memit+cap'" in str(raised.value.remedy)


def test_two_files_cannot_have_one_name(tmp_path: Path) -> None:
    files = [written(tmp_path, GUIDE), written(tmp_path, GUIDE + "\n", "other.py")]
    with pytest.raises(InputError, match=r"two plugins have the regularizer 'cap': mine\.py and other\.py"):
        Plugins.of_files(files)
    with pytest.raises(InputError, match="no plugin file"):
        Plugins.of_files([tmp_path / "nowhere.py"])


def test_a_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown method"):
        resolve_method("memit+cap")
    site = tmp_path / "site"
    install_package(site, "cap_package", GUIDE, {"sphere.regularizers": "cap"})
    monkeypatch.syspath_prepend(str(site))
    assert NO_PLUGINS.names("regularizer") == ["cap"]
    reference = resolve_method("memit+cap").code["cap"]
    assert (reference.name, reference.packaged) == ("cap_package", True)
    # On a node with another version of the package.
    (site / "cap_package.py").write_text(GUIDE + "# changed\n", encoding="utf-8")
    with pytest.raises(InputError, match="not the one that the sweep was planned with"):
        Plugins.of_references([reference], lambda digest: b"")
    install_package(site, "second_package", GUIDE, {"sphere.regularizers": "cap"})
    with pytest.raises(InputError, match="several packages have the regularizer 'cap'"):
        resolve_method("memit+cap")


def test_a_package_is_its_code_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package_with_data"
    folder.mkdir()
    (folder / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = package_digest("package_with_data.cap")
    for name in ("py.typed", ".hidden", "cap.pyc"):
        (folder / name).write_text("x", encoding="utf-8")
    assert package_digest("package_with_data.cap") == code
    (folder / "shares.json").write_text("[1]", encoding="utf-8")
    first = package_digest("package_with_data.cap")
    (folder / "shares.json").write_text("[2]", encoding="utf-8")
    assert len({code, first, package_digest("package_with_data.cap")}) == 3


def test_what_a_plugin_prints_does_not_enter_a_commands_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Plugins.of_files([written(tmp_path, "print('loaded here')\nif __name__ == '__main__':\n    __file__\n" + GUIDE)])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "loaded here" in shown.err


def test_the_build_of_a_plugin_receives_the_fields_of_the_record_in_order(tmp_path: Path) -> None:
    text = """
from sphere_core.methods import EditorRow


def build(*given):
    return given


EDITORS = {"mine": EditorRow(title="t", paper="p", build=build, requires=(), preset="memit")}
"""
    method = resolve_method("mine", plugins=Plugins.of_files([written(tmp_path, text)]))
    values, moments = method.from_preset("factworld"), SecondMoments({}, 0, {})
    given: object = method.build(values, moments)
    assert isinstance(given, tuple)
    assert len(given) == len(fields(BuildInputs))
    assert given[0] is values
    assert given[1] is moments
    assert isinstance(given[2], Shaping)
    assert given[3:] == (None, BESIDE_LAYERS)
