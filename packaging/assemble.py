"""Puts binaries into a container image and into archives for AWS Lambda, without a container engine.

    assemble.py VERSION FOLDER ARCH=BINARY…

The image is an OCI archive with one manifest for each architecture. It has the binary and nothing else: the binary is
linked to no library, and has the root certificates inside. `skopeo copy --all oci-archive:FILE docker://REGISTRY/NAME`
pushes it.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import time
import zipfile
from pathlib import Path

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

NANOSECONDS = 1_000_000_000


def add(archive, name, data, mode):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, EPOCH
    archive.addfile(entry, io.BytesIO(data))


class Image:
    """The blobs of an image."""

    def __init__(self):
        self.blobs = {}

    def blob(self, media_type, data, **more):
        """Keeps a blob, and returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def document(self, media_type, document, **more):
        return self.blob(media_type, json.dumps(document).encode(), **more)

    def platform(self, arch, binary, version):
        """The manifest of one architecture."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as layer:
            add(layer, "presence", binary, 0o755)
        layer = self.blob(LAYER, gzip.compress(raw.getvalue(), mtime=EPOCH))
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
        config = {
            "created": created,
            "architecture": arch,
            "os": "linux",
            "config": {
                "User": "65532:65532",
                "ExposedPorts": {"8080/tcp": {}},
                # PORT rather than PRESENCE_LISTEN, because platforms such as Cloud Run set PORT themselves.
                "Env": ["PORT=8080"],
                "Entrypoint": ["/presence"],
                "Labels": {
                    "org.opencontainers.image.title": "presence",
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.licenses": "MIT",
                },
                # Not a part of OCI. Docker and Podman read it.
                "Healthcheck": {
                    "Test": ["CMD", "/presence", "--healthcheck"],
                    "Interval": 5 * NANOSECONDS,
                    "Timeout": 3 * NANOSECONDS,
                },
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"],
            },
            "history": [{"created": created, "created_by": "packaging/assemble.py"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document(CONFIG, config),
            "layers": [layer],
        }
        return self.document(MANIFEST, manifest, platform={"architecture": arch, "os": "linux"})

    def write(self, path, manifests, version):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        name = {"org.opencontainers.image.ref.name": version}
        top = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [self.document(INDEX, index, annotations=name)],
        }
        with tarfile.open(path, "w") as archive:
            add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
            add(archive, "index.json", json.dumps(top).encode(), 0o644)
            for digest, data in sorted(self.blobs.items()):
                add(archive, f"blobs/sha256/{digest}", data, 0o644)


def write_function(path, binary):
    """An archive for AWS Lambda. The runtime provided.al2023 starts the file bootstrap."""
    entry = zipfile.ZipInfo("bootstrap", time.gmtime(max(EPOCH, 315_532_800))[:6])
    entry.external_attr = 0o100755 << 16
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, binary)


def main(version, folder, *binaries):
    folder, image, manifests = Path(folder), Image(), []
    for arch, path in (each.split("=", 1) for each in binaries):
        binary = Path(path).read_bytes()
        manifests.append(image.platform(arch, binary, version))
        write_function(folder / f"presence-{version}-lambda-{arch}.zip", binary)
    image.write(folder / f"presence-{version}-image.tar", manifests, version)


main(*sys.argv[1:])
