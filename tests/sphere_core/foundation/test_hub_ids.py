import pytest

from sphere_core.foundation.hub_ids import is_hub_id


@pytest.mark.parametrize("text", ["wikimedia/wikipedia", "azhx/counterfact", "E/gpt-j-6b", "a/b.c_d-e", "_x/y"])
def test_owner_and_name_is_an_id(text: str) -> None:
    assert is_hub_id(text)
    assert is_hub_id(text, needs_owner=False)


@pytest.mark.parametrize("text", ["gpt2", "distilbert-base-uncased"])
def test_a_name_alone_is_an_id_where_no_owner_is_needed(text: str) -> None:
    assert not is_hub_id(text)
    assert is_hub_id(text, needs_owner=False)


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/", "/b", "./b", "../model", "a/b/c", "a b/c", "a/b\n", "~/model", "https://hf.co/a", "ä/b", "a/.b"],
)
def test_paths_and_urls_are_no_ids(text: str) -> None:
    assert not is_hub_id(text)
    assert not is_hub_id(text, needs_owner=False)
