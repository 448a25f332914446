"""The signed manifest, read back by the library's own reader."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moda.errors import InputError, MissingExtraError
from moda.media import VideoWriter
from moda.media.provenance import DIGITAL_SOURCE_TYPE, ManifestSigner, SigningIdentity

c2pa = pytest.importorskip("c2pa")
KINDS = {".mp4": "video/mp4", ".mov": "video/quicktime", ".gif": "image/gif"}


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest store of a file as C2PA's reader checks it; None where there is none."""
    with path.open("rb") as file:
        try:
            with c2pa.Reader(KINDS[path.suffix], file) as reader:
                store: dict[str, Any] = json.loads(reader.json())
        except c2pa.C2paError.ManifestNotFound:
            return None
    return store


def write_video(
    path: Path, identity: SigningIdentity | None = None, *, signed: bool = True
) -> Path:
    signer = ManifestSigner(identity, path.suffix) if signed else None
    with VideoWriter(path, (64, 64), 25.0, finish=signer) as video:
        for level in range(0, 250, 25):
            video.write(np.full((64, 64, 3), level, np.uint8))
    return path


def active(path: Path) -> dict:
    store = read_manifest(path)
    assert store is not None
    return store["manifests"][store["active_manifest"]]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".gif"])
def test_the_manifest_says_what_it_is(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"talk{suffix}")
    store = read_manifest(path)
    assert store is not None
    assert store["validation_state"] == "Valid"
    problems = {entry["code"] for entry in store.get("validation_status", [])}
    assert problems <= {"signingCredential.untrusted"}, "nobody vouches for the certificate"
    manifest = active(path)
    (actions,) = [a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    (action,) = actions["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert manifest["signature_info"]["issuer"] == "MoDA, identity not verified"
    assert [path.name for path in tmp_path.iterdir()] == [f"talk{suffix}"]


def test_two_files_cannot_be_told_to_be_of_one_machine(tmp_path: Path) -> None:
    first, second = (
        active(write_video(tmp_path / name))["signature_info"]["cert_serial_number"]
        for name in ("a.mp4", "b.mp4")
    )
    assert first != second


def test_a_changed_file_shows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "talk.mp4")
    content = bytearray(path.read_bytes())
    place = content.rfind(b"mdat") + 40
    content[place] ^= 0xFF
    path.write_bytes(bytes(content))
    store = read_manifest(path)
    assert store is not None
    assert store["validation_state"] == "Invalid"


def test_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(write_video(tmp_path / "talk.mp4", signed=False)) is None


def identity_files(folder: Path, *, days: int = 30) -> SigningIdentity:
    """A certificate of an authority of our own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from moda.media.certificates import _certificate

    root_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example Studio"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
            ]
        )

    root = _certificate(name("root"), name("root"), root_key, root_key, is_authority=True)
    leaf = _certificate(name("leaf"), name("root"), key, root_key, is_authority=False)
    chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, root))
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return SigningIdentity(folder / "chain.pem", folder / "key.pem")


class TestOwnCertificate:
    def test_its_name_is_in_the_file(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "talk.mp4", identity_files(tmp_path))
        info = active(path)["signature_info"]
        assert info["issuer"] == "Example Studio"
        assert info["alg"] == "Es384"

    def test_problems_show_before_any_frame(self, tmp_path: Path) -> None:
        identity = identity_files(tmp_path)
        other = tmp_path / "other"
        other.mkdir()
        stranger = identity_files(other)
        with pytest.raises(InputError, match="is not that of the first certificate"):
            ManifestSigner(SigningIdentity(identity.certificate, stranger.key), ".mp4")
        with pytest.raises(InputError, match="cannot be read"):
            ManifestSigner(SigningIdentity(tmp_path / "no.pem", identity.key), ".mp4")
        identity.key.write_text("no key")
        with pytest.raises(InputError, match="cannot be read"):
            ManifestSigner(identity, ".mp4")

    def test_an_old_certificate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from moda.media import certificates

        class Later(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
                return datetime.datetime(2100, 1, 1, tzinfo=tz)

        identity = identity_files(tmp_path)
        monkeypatch.setattr(certificates.datetime, "datetime", Later)
        with pytest.raises(InputError, match="ended on 20"):
            ManifestSigner(identity, ".mp4")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(MissingExtraError, match=r"\[provenance\]"):
        ManifestSigner(None, ".mp4")
