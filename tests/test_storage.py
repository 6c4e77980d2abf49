"""OUT as a place for files: the same on a folder, in memory and over S3's protocol; nothing half written."""

import errno
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from ltx_ray.errors import ConfigError, StorageError
from ltx_ray.storage import Store, sha256_of


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty OUT of each kind."""
    if request.param == "s3":
        yield Store(request.getfixturevalue("s3_out"))
    elif request.param == "memory":
        url = f"memory://{uuid.uuid4().hex}"
        yield Store(url)
        fsspec.filesystem("memory").rm(url, recursive=True)
    else:
        yield Store(str(tmp_path / "not" / "there" / "yet"))


@pytest.fixture
def full_of_one_file(store: Store) -> Store:
    """OUT with a file, so that its folder exists on every kind of store."""
    store.write("kept", b"kept")
    return store


def test_what_is_written_is_read_and_replaced_as_a_whole(store: Store) -> None:
    store.write("a/b.bin", b"first, and longer")
    store.write("a/b.bin", b"second")
    assert store.read("a/b.bin") == b"second"
    assert store.size("a/b.bin") == 6
    assert store.list("") == ["a/b.bin"]


@pytest.mark.parametrize("size", [0, 1, 12 * 2**20], ids=["empty", "small", "multipart"])
def test_create_refuses_a_name_that_is_taken_and_leaves_it_as_it_was(store: Store, size: int) -> None:
    first, second = b"1" * size, b"2" * (size + 1)
    assert store.create("ledger/0001", first)
    assert not store.create("ledger/0001", second)
    assert store.read("ledger/0001") == first
    assert store.list("ledger") == ["ledger/0001"]


def test_of_many_that_create_the_same_name_at_once_one_wins(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: store.create("one", str(n).encode()), range(40)))
    assert won.count(True) == 1
    assert store.read("one") == str(won.index(True)).encode()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_put_moves_a_local_file(full_of_one_file: Store, tmp_path: Path) -> None:
    source = tmp_path / "made.mp4"
    source.write_bytes(b"video" * 100)
    full_of_one_file.put(source, "videos/00000/a.mp4")
    assert not source.exists()
    assert full_of_one_file.read("videos/00000/a.mp4") == b"video" * 100


def test_fetched_gives_a_local_file_with_the_content(full_of_one_file: Store) -> None:
    with full_of_one_file.fetched("kept") as path:
        assert path.read_bytes() == b"kept"
    assert full_of_one_file.read("kept") == b"kept"


def test_a_file_that_is_not_there_is_file_not_found(full_of_one_file: Store) -> None:
    with pytest.raises(FileNotFoundError):
        full_of_one_file.read("other")
    with pytest.raises(FileNotFoundError), full_of_one_file.fetched("other") as path:
        path.read_bytes()
    assert full_of_one_file.size("other") is None
    assert full_of_one_file.list("other") == []
    assert full_of_one_file.folders("other") == []


def test_a_file_of_another_program_is_seen(store: Store) -> None:
    assert store.size("a/new") is None
    assert store.list("a") == []
    Store(store.url).write("a/new", b"12")
    assert store.size("a/new") == 2
    assert store.list("a") == ["a/new"]


def test_folders_are_listed_by_name_and_are_no_files(store: Store) -> None:
    for name in ("ledger/0000/000002/1", "ledger/0000/000010/1", "ledger/0000/file"):
        store.write(name, b"")
    assert store.folders("ledger/0000") == ["000002", "000010"]
    assert store.folders("ledger") == ["0000"]
    assert store.size("ledger") is None


def test_delete_removes_a_folder_or_a_file_and_does_not_mind_nothing(full_of_one_file: Store) -> None:
    for name in ("work/a/1", "work/a/2", "work/b/1"):
        full_of_one_file.write(name, b"x")
    full_of_one_file.delete("work/a")
    full_of_one_file.delete("work/a")
    full_of_one_file.delete("never/there")
    assert full_of_one_file.list("") == ["kept", "work/b/1"]
    full_of_one_file.delete("work/b/1")
    assert full_of_one_file.list("") == ["kept"]


def test_what_is_half_written_does_not_exist_for_a_reader(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with store._local_part("video.mp4") as part:
        part.write_bytes(b"half")
        assert store.list("") == []
    assert store.list("") == ["video.mp4"]


def test_files_have_the_rights_that_the_umask_gives(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a", b"")
    store.create("b", b"")
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert {path.stat().st_mode for path in (store.local("a"), store.local("b"))} == {plain.stat().st_mode}


def test_relative_folders_do_not_follow_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store("out")
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.write("a", b"x")
    assert (tmp_path / "out" / "a").read_bytes() == b"x"


def test_an_unknown_protocol_is_a_config_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="nowhere://out"):
        Store("nowhere://out")


# -- storage that fails ----------------------------------------------------------------------------------


def test_a_file_in_the_way_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    store = Store(str(tmp_path / "out"))
    for change in (lambda: store.write("a/b", b""), lambda: store.create("a/b", b"")):
        with pytest.raises(StorageError, match="out"):
            change()


def test_a_place_that_can_have_no_files_is_a_storage_error() -> None:
    store = Store("/proc/ltx-ray-out")  # also root may make nothing there
    for change in (lambda: store.write("a", b""), lambda: store.create("a", b"")):
        with pytest.raises(StorageError, match=r"could not (write|create) /proc/ltx-ray-out/a"):
            change()


def test_a_file_that_grows_too_large_leaves_nothing_behind(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from ltx_ray.errors import StorageError
        from ltx_ray.storage import Store
        store = Store(sys.argv[1])
        store.write("kept", b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for change in (store.write, store.create):
            for name in ("kept", "new"):
                if change == store.create and name == "kept":
                    assert not store.create(name, b""), "kept is there"
                    continue
                try:
                    change(name, b"x" * 5000)
                except StorageError as error:
                    assert error.retryable and name in str(error), error
                else:
                    raise SystemExit(f"{change} wrote {name}")
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"old"


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from ltx_ray.errors import StorageError
        from ltx_ray.storage import Store
        out = Path(sys.argv[1])
        store = Store(str(out))
        store.write("kept", b"old")
        for change in (lambda: store.write("kept", bytes(10**6)), lambda: store.create("new", bytes(10**6))):
            try:
                change()
            except StorageError as error:
                assert "the disk is full: free some space" in str(error), error
            else:
                raise SystemExit("a full disk took it")
        assert os.listdir(out) == ["kept"], os.listdir(out)
        assert store.read("kept") == b"old"
        assert store.create("new", b"small"), "there is room again"
        """
    mount = 'mount -t tmpfs -o size=256k full "$1" && exec "$0" -c "$2" "$1"'
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    if not _works([*inside[:4], "true"]):
        pytest.skip("this kernel gives users no mounts of their own")
    command = [*inside, sys.executable, str(tmp_path), textwrap.dedent(script)]
    subprocess.run(command, check=True)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EROFS, "choose another --output"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "check the storage"),
    ],
)
def test_each_kind_of_failure_says_what_to_do(number: int, advice: str) -> None:
    class Failing(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = f"fails{number}"

        def _open(self, *_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

    fsspec.register_implementation(Failing.protocol, Failing, clobber=True)
    with pytest.raises(StorageError, match=advice):
        Store(f"{Failing.protocol}://out").create("a", b"")


def test_a_bucket_that_does_not_exist_is_a_storage_error(s3_endpoint: str) -> None:
    store = Store("s3://no-such-bucket-here/out")
    for change in (lambda: store.write("a", b""), lambda: store.create("a", b"")):
        with pytest.raises(StorageError, match=r"no-such-bucket-here/out/a.*does not exist"):
            change()


def test_an_object_store_that_does_not_answer_is_a_storage_error() -> None:
    options = {"endpoint_url": "http://127.0.0.1:1", "key": "k", "secret": "s"}
    store = Store("s3://far-bucket/out")
    store._fs = fsspec.filesystem("s3", **options, config_kwargs={"retries": {"max_attempts": 0}})
    store._fs.retries = 1
    for look in (lambda: store.read("a"), lambda: store.size("a"), lambda: store.create("b", b"")):
        with pytest.raises(StorageError, match=r"far-bucket/out/.*Could not connect"):
            look()


def test_the_hash_is_sha_256() -> None:
    assert sha256_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
