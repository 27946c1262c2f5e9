"""Nothing outside a project's folder can be read or listed, whatever the path and whatever happens meanwhile."""

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.tools.workspace import Entry, Workspace
from schemas.errors import ToolRefused

SECRET = "the secret outside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "README.md").write_text("hello\n")
    (root / "docs" / "a.md").write_text("a")
    (root / ".env").write_text("x=1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.md").write_text(SECRET)
    return root


def refusal(action: Callable[[], object]) -> ToolRefused:
    with pytest.raises(ToolRefused) as caught:
        action()
    assert caught.value.hint, "a refusal says what to do"
    return caught.value


def test_reads_a_file_by_relative_and_by_absolute_path(root: Path) -> None:
    space = Workspace(root)
    for path in ("README.md", "./README.md", "././README.md"):
        assert space.read(path) == "hello\n"
    assert space.read(str(root / "README.md")) == "hello\n"
    assert space.read("docs//a.md") == "a"


def test_an_absolute_path_through_a_linked_root_is_inside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    space = Workspace(tmp_path / "linked")
    assert space.read(str(tmp_path / "linked" / "README.md")) == "hello\n"
    assert space.read(str(root / "README.md")) == "hello\n"


def test_a_byte_order_mark_is_removed(root: Path) -> None:
    (root / "bom.txt").write_bytes(b"\xef\xbb\xbf\xd0\xbf")
    assert Workspace(root).read("bom.txt") == "п"


def test_names_in_any_script_and_with_spaces(root: Path) -> None:
    (root / "отчёт за май.txt").write_text("итог")
    (root / "笔记.md").write_text("好")
    assert Workspace(root).read("отчёт за май.txt") == "итог"
    assert Workspace(root).read("笔记.md") == "好"


def test_lists_names_in_order_with_kind_and_size(root: Path) -> None:
    (root / "link").symlink_to("README.md")
    os.mkfifo(root / "pipe")
    listed = Workspace(root).list()
    assert listed.left_out == 0
    assert listed.entries == (
        Entry(".env", "file", 3),
        Entry("README.md", "file", 6),
        Entry("docs", "folder", 0),
        Entry("link", "symlink", 0),
        Entry("pipe", "other", 0),
    )
    assert [e.name for e in Workspace(root).list("docs/").entries] == ["a.md", "deep"]
    assert Workspace(root).list("docs/deep").entries == ()
    assert Workspace(root).list(".") == listed
    assert Workspace(root).list(str(root)) == listed


def test_a_long_listing_is_cut_and_says_so(root: Path) -> None:
    for number in range(30):
        (root / "docs" / "deep" / f"{number:02}").touch()
    listed = Workspace(root, max_entries=10).list("docs/deep")
    assert [e.name for e in listed.entries] == [f"{n:02}" for n in range(10)]
    assert listed.left_out == 20


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../outside/a.md", "path.parent"),
        ("docs/../README.md", "path.parent"),
        ("docs/..", "path.parent"),
        ("/etc/passwd", "path.outside"),
        ("/", "path.outside"),
        ("//etc/passwd", "path.outside"),
        ("/proc/self/environ", "path.outside"),
        ("/dev/zero", "path.outside"),
        ("~", "path.outside"),
        ("~/a.md", "path.outside"),
        ("~root/a.md", "path.outside"),
        ("missing.md", "path.missing"),
        ("missing/a.md", "path.missing"),
        ("", "path.invalid"),
        ("  ", "path.invalid"),
        ("README.md\0.txt", "path.invalid"),
        ("a" * 300, "path.invalid"),
        ("a/" * 3000, "path.invalid"),
        ("\ud800", "path.invalid"),
        ("\udcff.txt", "path.invalid"),
        ("docs", "path.not_file"),
        (".", "path.not_file"),
        ("README.md/a", "path.not_folder"),
    ],
)
def test_refuses_to_read(root: Path, path: str, code: str) -> None:
    assert refusal(lambda: Workspace(root).read(path)).code == code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("..", "path.parent"),
        ("/etc", "path.outside"),
        ("~", "path.outside"),
        ("missing", "path.missing"),
        ("README.md", "path.not_folder"),
        ("docs\0", "path.invalid"),
    ],
)
def test_refuses_to_list(root: Path, path: str, code: str) -> None:
    assert refusal(lambda: Workspace(root).list(path)).code == code


def test_a_sibling_whose_name_begins_like_the_root_is_outside(root: Path) -> None:
    sibling = root.with_name("project2")
    sibling.mkdir()
    (sibling / "a.md").write_text(SECRET)
    assert refusal(lambda: Workspace(root).read(str(sibling / "a.md"))).code == "path.outside"


def test_a_missing_root_is_said(tmp_path: Path) -> None:
    assert refusal(Workspace(tmp_path / "none").list).code == "path.missing"
    (tmp_path / "file").touch()
    assert refusal(Workspace(tmp_path / "file").list).code == "path.not_folder"


def test_links_inside_are_followed_and_links_outside_refused(root: Path, tmp_path: Path) -> None:
    (root / "in").symlink_to("docs")
    (root / "abs-in").symlink_to(root / "docs" / "a.md")
    (root / "up-and-down").symlink_to("../project/docs")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out-file").symlink_to("../outside/a.md")
    (root / "out-missing").symlink_to("/no/such/place")
    (root / "zero").symlink_to("/dev/zero")
    space = Workspace(root)
    assert space.read("in/a.md") == space.read("abs-in") == space.read("up-and-down/a.md") == "a"
    for path in ("out/a.md", "out-file", "out-missing", "zero", "out/none"):
        assert refusal(lambda path=path: space.read(path)).code == "path.symlink"
    assert refusal(lambda: space.list("out")).code == "path.symlink"


def test_links_in_a_circle_or_in_a_very_long_chain_are_refused(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "self").symlink_to("self/x")
    (root / "chain-0").symlink_to("README.md")
    for number in range(2_000):
        (root / f"chain-{number + 1}").symlink_to(f"chain-{number}")
    space = Workspace(root)
    for path in ("a", "a/x", "self", "chain-2000"):
        assert refusal(lambda path=path: space.read(path)).code == "path.symlink"


def test_pipes_sockets_and_devices_are_refused_without_waiting(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        begun = time.monotonic()
        for path in ("pipe", "socket"):
            assert refusal(lambda path=path: Workspace(root).read(path)).code == "path.device"
        assert refusal(lambda: Workspace(root).read("pipe/x")).code == "path.not_folder"
        assert time.monotonic() - begun < 5


def test_a_file_that_becomes_a_pipe_after_the_check_does_not_block(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    regular = os.stat(root / "README.md")  # noqa: PTH116
    monkeypatch.setattr(os, "stat", lambda *_args, **_kwargs: regular)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert refusal(lambda: Workspace(root).read("pipe")).code == "path.device"


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe\x00a", "привет".encode("cp1251"), b"\x89PNG\r\n"])
def test_what_is_not_text_is_refused(root: Path, data: bytes) -> None:
    (root / "data").write_bytes(data)
    assert refusal(lambda: Workspace(root).read("data")).code == "path.binary"


def test_a_file_over_the_limit_is_refused_unread(root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(lambda: Workspace(root).read("huge")).code == "path.too_large"
    (root / "fits").write_bytes(b"x" * 100)
    assert len(Workspace(root, max_bytes=100).read("fits")) == 100
    assert refusal(lambda: Workspace(root, max_bytes=99).read("fits")).code == "path.too_large"


def test_a_file_that_grows_while_it_is_read_stays_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "log"
    path.write_bytes(b"x" * 10)
    read, sizes = os.read, list[int]()

    def growing(file: int, size: int) -> bytes:
        with path.open("ab") as log:
            log.write(b"x" * 1_000)
        sizes.append(size)
        return read(file, size)

    monkeypatch.setattr(os, "read", growing)
    assert refusal(lambda: Workspace(root, max_bytes=4_000).read("log")).code == "path.too_large"
    assert sum(sizes) < 20_000


def test_no_permission_is_a_refusal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_args: object, **_kwargs: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert refusal(lambda: Workspace(root).read("README.md")).code == "path.denied"


def test_names_that_are_not_utf8_can_be_listed(root: Path) -> None:
    try:
        (root / "docs" / "deep" / os.fsdecode(b"\xff.txt")).touch()
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    (entry,) = Workspace(root).list("docs/deep").entries
    assert entry == Entry("\ufffd.txt", "file", 0)


def test_a_folder_swapped_for_a_link_while_reading_never_lets_anything_out(root: Path, tmp_path: Path) -> None:
    space, stop = Workspace(root), threading.Event()

    def swap() -> None:
        folder, away, link = root / "docs", root / "away", root / "link"
        while not stop.is_set():
            link.symlink_to(tmp_path / "outside")
            folder.rename(away)
            link.rename(folder)
            folder.unlink()
            away.rename(folder)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen, refused, begun = set[str](), set[str](), time.monotonic()
    try:
        while time.monotonic() < begun + (10 if not seen else 1):
            try:
                seen.add(space.read("docs/a.md"))
                seen.update(entry.name for entry in space.list("docs").entries)
            except ToolRefused as problem:
                refused.add(problem.code)
    finally:
        stop.set()
        swapper.join()
    assert seen <= {"a", "a.md", "deep"}
    assert seen
    assert refused <= {"path.symlink", "path.missing", "path.not_folder"}


def test_a_file_swapped_for_a_link_after_the_check_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: everything has been checked, and only the open is left."""
    open_, regular = os.open, root / "docs" / "a.md"

    def late(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if path == "a.md":
            regular.unlink()
            regular.symlink_to(tmp_path / "outside" / "a.md")
        return open_(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late)
    assert refusal(lambda: Workspace(root).read("docs/a.md")).code == "path.symlink"


def test_nothing_stays_open(root: Path) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    space = Workspace(root)
    for _ in range(50):
        space.read("docs/a.md")
        space.list("docs")
        refusal(lambda: space.read("docs/none"))
        refusal(lambda: space.read("docs/a.md/x"))
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


# Secrets


@pytest.mark.parametrize(
    "path",
    [
        *(".env", "docs/.ENV.local", ".git/config", ".git", "docs/.ssh/known_hosts", "deploy/id_rsa", "docs/tls.KEY"),
        *("config.txt", ".envrc", "secret-link", "././.env", "docs/.git"),
    ],
)
def test_what_is_kept_secret_is_not_read_or_listed(root: Path, path: str) -> None:
    for name in (".git", "docs/.ssh", "deploy", "docs/.git"):
        (root / name).mkdir()
    for name in (
        ".git/config",
        "docs/.ENV.local",
        "docs/.ssh/known_hosts",
        "deploy/id_rsa",
        "docs/tls.KEY",
        "docs/.env",
    ):
        (root / name).write_text(SECRET)
    (root / "config.txt").write_text(f"a\n-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}")
    (root / "public.txt").write_text(SECRET)
    (root / ".envrc").symlink_to("public.txt")
    (root / "secret-link").symlink_to(".env")
    space = Workspace(root)
    assert refusal(lambda: space.read(path)).code == "path.secret"
    if not (root / path).is_file():
        assert refusal(lambda: space.list(path)).code == "path.secret"


def test_what_is_secret_can_be_said(root: Path) -> None:
    assert Workspace(root, secrets=()).read(".env") == "x=1"
    assert Workspace(root, secrets=("*.md",)).read(".env") == "x=1"
    assert refusal(lambda: Workspace(root, secrets=("*.md",)).read("README.md")).code == "path.secret"
    (root / "key.txt").write_text("-----BEGIN PRIVATE KEY-----")
    assert Workspace(root, secrets=()).read("key.txt")
