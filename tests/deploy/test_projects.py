from pathlib import Path

import pytest

from deploy.projects import Projects
from deploy.settings import Settings
from schemas.errors import InvalidInput


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("shop", "shop/inside", "beside", "else/where"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "shop"


def projects(root: Path, main: str = "", allowed: str = "") -> Projects:
    return Projects.from_settings(Settings(main_project=main, allowed_projects=allowed), root)


@pytest.mark.parametrize("name", ["shop", ".hidden", "a=b", "with space"])
def test_by_default_the_root_folder_is_the_main_project_under_its_own_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    found = projects(tmp_path / name)
    assert (found.main, found.names) == (name, (name,))
    assert found.folder(name) == tmp_path / name


def test_a_bare_name_is_the_root_or_a_folder_in_it_or_beside_it_or_has_no_folder(root: Path) -> None:
    found = projects(root, "shop", "inside, beside ,,nowhere")
    assert found.names == ("shop", "inside", "beside", "nowhere")
    assert found.folder("shop") == root
    assert found.folder("inside") == root / "inside"
    assert found.folder("beside") == root.parent / "beside"
    assert found.folder("nowhere") is None


def test_paths_are_named_by_their_last_part_or_explicitly(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent / "else"))
    found = projects(root, "mine=.", f"~/where,../beside/,./inside,again={root.parent}/beside,gone=/no/such")
    assert found.main == "mine"
    assert found.folder("mine") == root
    assert found.folder("where") == root.parent / "else" / "where"
    assert found.folder("beside") == found.folder("again") == root.parent / "beside"
    assert found.folder("inside") == root / "inside"
    assert found.folder("gone") is None


def test_an_explicit_folder_wins_over_a_guessed_one(root: Path) -> None:
    found = projects(root, "inside", "inside=../beside,inside")
    assert found.folder("inside") == root.parent / "beside"
    assert found.names == ("inside",)


def test_an_unknown_or_empty_name_means_the_main_project(root: Path) -> None:
    found = projects(root, allowed="beside")
    assert found.resolve("beside") == "beside"
    assert found.resolve("") == found.resolve("evil") == found.resolve("../..") == "shop"
    assert found.folder("evil") is None


def test_requiring_an_unknown_project_is_refused_and_lists_the_allowed_ones(root: Path) -> None:
    found = projects(root, allowed="beside")
    assert found.require(" beside ") == "beside"
    with pytest.raises(InvalidInput) as caught:
        found.require("evil")
    assert caught.value.code == "project.unknown"
    assert "shop, beside" in caught.value.hint


@pytest.mark.parametrize("item", ["=path", "name=", "/", "a=x,a=../beside", "a\x00b", "~nobody-of-that-name/x"])
def test_what_names_no_project_is_refused(root: Path, item: str) -> None:
    (root / "x").mkdir()
    with pytest.raises(InvalidInput) as caught:
        projects(root, allowed=item)
    assert caught.value.code == "project.invalid"


def test_a_main_project_named_like_no_folder_is_the_root_folder_itself(root: Path) -> None:
    found = projects(root, "another-name")
    assert (found.main, found.folder("another-name")) == ("another-name", root)
