"""Archive of a container image: OCI layout, and the list for `docker load`, in one tar file.

Guarantees: the same files give the same bytes: entries in order, times cut to the given one, no names of users.
Not here: the files of the image (deploy.container.__main__).
OCI image-spec 1.1 (image-layout, manifest, config, layer); the healthcheck is a field of Docker's config.
"""

import gzip
import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_LEVEL: Final = 6  # of gzip: level 9 takes three times as long for one percent


@dataclass(frozen=True)
class Layer:
    """A packed layer. `diff_id`: digest of its tar before compression."""

    content: bytes
    diff_id: str


def pack_layer(root: Path, moment: int, wanted: Callable[[str], bool]) -> Layer:
    """Pack the files below `root` for which `wanted` says so. `moment`: seconds since 1970, the latest time of a file.

    `wanted` gets the path relative to the root; it is not asked about files below a folder that it refuses.
    """
    packed = io.BytesIO()
    first: dict[tuple[int, int], str] = {}  # of the names of one file, by device and inode
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in _entries(root, "", wanted):
            status = path.lstat()
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
            entry.mtime = min(int(status.st_mtime), moment)
            if stat.S_ISLNK(status.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
            elif stat.S_ISDIR(status.st_mode):
                entry.type = tarfile.DIRTYPE
            elif stat.S_ISREG(status.st_mode) and (other := first.get((status.st_dev, status.st_ino))):
                entry.type, entry.linkname = tarfile.LNKTYPE, other
            elif stat.S_ISREG(status.st_mode):
                first[status.st_dev, status.st_ino] = name
                entry.size = status.st_size
                with path.open("rb") as file:
                    archive.addfile(entry, file)
                continue
            else:
                continue  # devices and sockets: the runtime makes its own
            archive.addfile(entry)
    tar = packed.getvalue()
    return Layer(gzip.compress(tar, _LEVEL, mtime=0), _digest(tar))


def write_archive(archive: Path, name: str, layers: list[Layer], settings: dict[str, Any]) -> None:
    """Write the image `name` (repository:tag). `settings`: its config without `rootfs`."""
    config = settings | {"rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}}
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = _digest(content)
        blobs[f"blobs/sha256/{digest.partition(':')[2]}"] = content
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    config_entry = blob(_json(config), _CONFIG)
    layer_entries = [blob(layer.content, _LAYER) for layer in layers]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config_entry, "layers": layer_entries}
    reference = blob(_json(manifest), _MANIFEST) | {
        "annotations": {"org.opencontainers.image.ref.name": name.partition(":")[2], "io.containerd.image.name": name}
    }
    files = blobs | {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [reference]}),
        "manifest.json": _json(
            [{"Config": _place(config_entry), "RepoTags": [name], "Layers": [_place(one) for one in layer_entries]}]
        ),
    }
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as out:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(files[path])
            out.addfile(entry, io.BytesIO(files[path]))


def _entries(root: Path, at: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Path]]:
    for path in sorted((root / at).iterdir()):
        name = str(path.relative_to(root))
        if not wanted(name):
            continue
        yield name, path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(root, name, wanted)


def _place(entry: dict[str, Any]) -> str:
    return f"blobs/sha256/{entry['digest'].partition(':')[2]}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
