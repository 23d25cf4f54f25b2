"""Signers: key files, key services, and the authority that nobody should trust."""

from __future__ import annotations

import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID

from watermark import issuing
from watermark.certificates import check_key_file, check_signer
from watermark.manifest import read, sign_file
from watermark.signers import (
    CallbackSigner,
    DevelopmentAuthority,
    FileSigner,
    SignerError,
    anchors_of,
    leaf_expiry,
    open_signer,
    remaining_life,
)


def test_every_certificate_says_that_nobody_should_trust_it(dev_authority):
    pem = dev_authority.signer().chain_pem + dev_authority.root_pem
    for certificate in x509.load_pem_x509_certificates(pem.encode()):
        assert "UNTRUSTED DEVELOPMENT" in certificate.subject.rfc4514_string()
        assert "UNTRUSTED development" in certificate.subject.rfc4514_string()
    assert dev_authority.signer().development
    findings = check_signer(dev_authority.signer(), dev_authority.root_pem)
    assert [(finding.code, finding.fatal) for finding in findings] == [("development", False)]


def test_the_issuer_shown_to_a_reader_says_untrusted(sign):
    _, signed = sign("image/jpeg")
    assert signed.credentials.issuer == "Imprimatur UNTRUSTED DEVELOPMENT"
    assert signed.credentials.common_name == "Imprimatur UNTRUSTED development signer"


def test_the_leaf_has_the_profile_of_a_claim_signer(dev_authority):
    leaf, intermediate = x509.load_pem_x509_certificates(dev_authority.signer().chain_pem.encode())
    (root,) = x509.load_pem_x509_certificates(dev_authority.root_pem.encode())
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)

    def extension(kind):
        return leaf.extensions.get_extension_for_class(kind)

    assert leaf.version is x509.Version.v3
    assert not extension(x509.BasicConstraints).value.ca
    usage = extension(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert set(extension(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
        x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1"),
    }
    subject = intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert extension(x509.AuthorityKeyIdentifier).value.key_identifier == subject.digest
    assert extension(x509.SubjectKeyIdentifier).value == x509.SubjectKeyIdentifier.from_public_key(leaf.public_key())
    assert isinstance(leaf.public_key().curve, ec.SECP256R1)
    assert timedelta(days=89) < remaining_life(dev_authority.signer().chain_pem) <= timedelta(days=90)


def test_private_keys_are_readable_by_their_owner_only(dev_authority):
    keys = sorted(path.name for path in dev_authority.folder.glob("*.key"))
    assert keys == ["intermediate.key", "root.key", "signer.key"]
    for name in keys:
        assert stat.S_IMODE((dev_authority.folder / name).stat().st_mode) == 0o600


def test_a_leaf_near_its_end_is_renewed_under_the_same_root(tmp_path):
    made = DevelopmentAuthority.create(tmp_path)
    root, first = made.root_pem, made.signer().chain_pem
    assert DevelopmentAuthority.open(tmp_path).signer().chain_pem == first
    later = datetime.now(UTC) + timedelta(days=61)
    renewed = DevelopmentAuthority.open(tmp_path, now=later).signer().chain_pem
    assert leaf_expiry(renewed) > leaf_expiry(first)
    assert made.root_pem == root
    leaf, intermediate = x509.load_pem_x509_certificates(renewed.encode())
    leaf.verify_directly_issued_by(intermediate)


def test_an_intermediate_near_its_end_is_renewed_too(tmp_path):
    DevelopmentAuthority.create(tmp_path)
    later = datetime.now(UTC) + timedelta(days=1800)
    chain = DevelopmentAuthority.open(tmp_path, now=later).signer().chain_pem
    assert remaining_life(chain, now=later) > timedelta(days=80)
    findings = check_signer(open_signer(tmp_path), anchors_of(tmp_path), now=later)
    assert "expires_soon" not in [finding.code for finding in findings]


def test_a_leaf_and_a_key_that_do_not_match_are_healed(tmp_path):
    made = DevelopmentAuthority.create(tmp_path)
    (tmp_path / "signer.key").write_bytes(issuing.issue_root().key_pem)
    with pytest.raises(SignerError) as caught:
        made.signer()
    assert caught.value.code == "signer_invalid"
    assert DevelopmentAuthority.open(tmp_path).signer().development


def test_keys_that_are_there_are_never_replaced(tmp_path):
    DevelopmentAuthority.create(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SignerError) as caught:
        DevelopmentAuthority.create(tmp_path)
    assert caught.value.code == "signer_exists"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for name in ("root.pem", "root.key"):
        (tmp_path / name).unlink()
    with pytest.raises(SignerError):  # a production chain without a development root
        DevelopmentAuthority.create(tmp_path)
    assert (tmp_path / "chain.pem").read_bytes() == before["chain.pem"]


def test_a_creation_that_was_cut_off_is_started_again(tmp_path):
    DevelopmentAuthority.create(tmp_path)
    (tmp_path / "root.pem").unlink()
    assert DevelopmentAuthority.open_or_create(tmp_path).signer().development


def _open(folder: Path) -> str:
    return DevelopmentAuthority.open_or_create(folder).signer().chain_pem


def test_processes_that_start_at_once_share_one_authority(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        chains = pool.map(_open, [tmp_path / "signer"] * 6)
    assert len(set(chains)) == 1


def test_an_empty_folder_has_no_signer(tmp_path):
    for attempt in (
        lambda: open_signer(tmp_path),
        lambda: DevelopmentAuthority.open(tmp_path),
        lambda: anchors_of(tmp_path),
    ):
        with pytest.raises(SignerError) as caught:
            attempt()
        assert caught.value.code == "signer_missing"
        assert "certs init-dev" in caught.value.message


@pytest.mark.parametrize(
    "content", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_chain_that_is_no_certificate_is_named(tmp_path, dev_authority, content):
    chain = tmp_path / "chain.pem"
    chain.write_bytes(content)
    with pytest.raises(SignerError) as caught:
        FileSigner(chain, dev_authority.folder / "signer.key")
    assert caught.value.code == "signer_invalid"


def test_the_signature_of_a_key_file_is_raw_and_verifies(dev_authority):
    signer = dev_authority.signer()
    signature = signer.sign(b"structure")
    assert len(signature) == 64
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    leaf = x509.load_pem_x509_certificates(signer.chain_pem.encode())[0]
    leaf.public_key().verify(der, b"structure", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        leaf.public_key().verify(der, b"another", ec.ECDSA(hashes.SHA256()))


def leaf_for(key, intermediate: issuing.Issued) -> x509.Certificate:
    """The development leaf's profile around another kind of key."""
    template = issuing.issue_leaf(intermediate).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
    )
    for extension in template.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(intermediate.key, hashes.SHA256())


@pytest.mark.parametrize(
    ("make", "alg"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_other_kinds_of_keys_sign_too(make, alg, tmp_path, plain_media, request_for):
    root = issuing.issue_root()
    intermediate = issuing.issue_intermediate(root)
    key = make()
    leaf = leaf_for(key, intermediate).public_bytes(serialization.Encoding.PEM).decode()
    (tmp_path / "chain.pem").write_text(leaf + intermediate.certificate_pem)
    (tmp_path / "signer.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(SignerError):
        FileSigner(tmp_path / "chain.pem", tmp_path / "signer.key")
    signer = FileSigner(tmp_path / "chain.pem", tmp_path / "signer.key", password=b"password")
    assert signer.alg == alg
    out = tmp_path / "out.jpg"
    sign_file(plain_media["image/jpeg"], out, request_for("image/jpeg"), signer, anchors_pem=root.certificate_pem)
    assert read(out, "image/jpeg", anchors_pem=root.certificate_pem).is_ours


def test_a_key_service_signs_without_the_key_in_reach(dev_authority, tmp_path, plain_media, request_for):
    asked = []
    service = dev_authority.signer()

    def sign(data: bytes) -> bytes:
        asked.append(len(data))
        return service.sign(data)

    signer = CallbackSigner(service.chain_pem, "es256", sign)
    signed = sign_file(
        plain_media["image/png"],
        tmp_path / "out.png",
        request_for("image/png"),
        signer,
        anchors_pem=dev_authority.root_pem,
    )
    assert signed.credentials.state == "trusted"
    assert len(asked) == 1


def test_a_key_service_with_an_unknown_algorithm_or_chain_is_refused(dev_authority):
    for chain, alg in ((dev_authority.signer().chain_pem, "rs256"), ("no pem", "es256")):
        with pytest.raises(SignerError) as caught:
            CallbackSigner(chain, alg, lambda data: data)
        assert caught.value.code == "signer_invalid"


def test_what_is_wrong_with_a_signer_is_found(tmp_path, dev_authority, other_authority):
    folder = tmp_path / "signer"
    DevelopmentAuthority.create(folder)

    def codes(now: datetime | None = None) -> list[str]:
        return [finding.code for finding in check_signer(open_signer(folder), anchors_of(folder), now)]

    (folder / "root.key").unlink()  # from here on a production folder: nothing heals by itself
    assert codes() == ["development"]
    assert check_key_file(folder / "signer.key") == []
    (folder / "signer.key").chmod(0o644)
    assert [finding.code for finding in check_key_file(folder / "signer.key")] == ["key_readable"]
    assert "expires_soon" in codes(datetime.now(UTC) + timedelta(days=80))
    assert codes(datetime.now(UTC) + timedelta(days=91))[0] == "not_valid_now"
    (folder / "root.pem").write_text(other_authority.root_pem)
    assert codes()[0] == "anchor_mismatch"
    (folder / "root.pem").write_text("nothing")
    assert codes() == ["anchor_invalid"]


def test_a_key_service_that_does_not_answer_is_found(dev_authority):
    def outage(data: bytes) -> bytes:
        raise TimeoutError("no answer")

    findings = check_signer(CallbackSigner(dev_authority.signer().chain_pem, "es256", outage), dev_authority.root_pem)
    assert (findings[0].code, findings[0].fatal) == ("signer_failed", True)
    assert "no answer" in findings[0].message


def test_the_last_certificate_of_the_chain_may_be_the_anchor_itself(dev_authority, sign):
    chain = dev_authority.signer().chain_pem
    intermediate = x509.load_pem_x509_certificates(chain.encode())[1].public_bytes(serialization.Encoding.PEM).decode()
    assert not any(finding.fatal for finding in check_signer(dev_authority.signer(), intermediate))
    path, _ = sign("image/jpeg")
    assert read(path, "image/jpeg", anchors_pem=intermediate).is_ours


def test_a_certificate_that_is_not_for_signing_claims_is_found(tmp_path):
    root = issuing.issue_root()
    (tmp_path / "chain.pem").write_text(root.certificate_pem)
    (tmp_path / "signer.key").write_bytes(root.key_pem)
    (tmp_path / "root.pem").write_text(root.certificate_pem)
    assert check_signer(open_signer(tmp_path), anchors_of(tmp_path))[0].code == "leaf_unfit"
