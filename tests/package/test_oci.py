"""The archive of a container image: the same files give the same bytes."""

import io
import json
import os
import tarfile
from pathlib import Path

from deploy.container.oci import Layer, pack_layer, write_archive

MOMENT = 1_790_000_000


def tree(root: Path, names: list[str], moment: int) -> Path:
    """Files made in this order and at this time, one of them with two names, and a symbolic link."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        (root / name).chmod(0o644)
    os.link(root / "bin/tool", root / "bin/same")
    (root / "bin/link").symlink_to("tool")
    for path in (root, *root.rglob("*")):
        path.chmod(0o755) if path.is_dir() else None
        os.utime(path, (moment, moment), follow_symlinks=False)
    return root


def packed(root: Path) -> Layer:
    return pack_layer(root, MOMENT, lambda name: name != "left")


def members(layer: Layer) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(layer.content)) as archive:
        return archive.getmembers()


def test_order_and_later_times_of_the_files_do_not_matter(tmp_path: Path) -> None:
    names = ["bin/tool", "etc/hosts", "left/out"]
    first = packed(tree(tmp_path / "first", names, MOMENT + 5))
    second = packed(tree(tmp_path / "second", names[::-1], MOMENT + 500))
    assert first == second
    assert [entry.name for entry in members(first)] == ["bin", "bin/link", "bin/same", "bin/tool", "etc", "etc/hosts"]
    assert {entry.mtime for entry in members(first)} == {MOMENT}


def test_a_file_with_two_names_is_packed_once(tmp_path: Path) -> None:
    by_name = {entry.name: entry for entry in members(packed(tree(tmp_path, ["bin/tool"], MOMENT)))}
    assert by_name["bin/tool"].islnk()
    assert by_name["bin/tool"].linkname == "bin/same"
    assert by_name["bin/link"].linkname == "tool"


def test_every_blob_has_the_name_of_its_digest_and_both_indexes_name_the_layers(tmp_path: Path) -> None:
    layer = packed(tree(tmp_path / "files", ["bin/tool"], MOMENT))
    write_archive(tmp_path / "image.tar", "senderproxy:1", [layer], {"architecture": "amd64", "os": "linux"})
    with tarfile.open(tmp_path / "image.tar") as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        content = {name: file.read() for name, file in files.items() if file is not None}
    index = json.loads(content["index.json"])
    manifest = json.loads(content["blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")])
    (of_docker,) = json.loads(content["manifest.json"])
    assert of_docker["RepoTags"] == ["senderproxy:1"]
    assert of_docker["Layers"] == [
        "blobs/sha256/" + one["digest"].removeprefix("sha256:") for one in manifest["layers"]
    ]
    config = json.loads(content[of_docker["Config"]])
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    assert content[of_docker["Layers"][0]] == layer.content
