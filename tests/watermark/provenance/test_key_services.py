"""Keys in AWS KMS, Google Cloud KMS and PKCS#11: against stand-ins on loopback, and against a real software token."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.watermark.provenance import key_stand_ins as stand_ins
from watermark import issuing, key_aws, key_gcp, key_pkcs11
from watermark.certificates import check_signer
from watermark.key_services import open_key, service_signer
from watermark.manifest import read, sign_file
from watermark.signers import SignerError

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
VERSION = "projects/house/locations/eu/keyRings/signing/cryptoKeys/claims/cryptoKeyVersions/1"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so")


def certified(key: Any) -> tuple[str, str]:
    """A chain for `key` and its root, PEM, as a certificate authority would issue them."""
    root = issuing.issue_root()
    intermediate = issuing.issue_intermediate(root)
    leaf = issuing.issue_leaf(intermediate).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(intermediate.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return made + intermediate.certificate_pem, root.certificate_pem


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_ins.StandIn]:
    for name, value in (("ACCESS_KEY_ID", "AKIDEXAMPLE"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "eu")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    service = stand_ins.StandIn(ec.generate_private_key(ec.SECP256R1()))
    with stand_ins.serving(service, stand_ins.AwsKms):
        yield service


@pytest.fixture
def google() -> Iterator[stand_ins.StandIn]:
    service = stand_ins.StandIn(ec.generate_private_key(ec.SECP256R1()))
    with stand_ins.serving(service, stand_ins.GoogleKms):
        yield service


@pytest.fixture
def prove(plain_media, request_for, tmp_path) -> Callable[..., None]:
    """Sign a picture with the key at `uri` and read it back as ours."""

    def do(uri: str, public: Any, **options: str) -> None:
        chain, root = certified(public)
        signer = service_signer(chain, open_key(uri, **options))
        out = tmp_path / "out.jpg"
        sign_file(plain_media["image/jpeg"], out, request_for("image/jpeg"), signer, anchors_pem=root)
        assert read(out, "image/jpeg", anchors_pem=root).is_ours

    return do


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "P-521", "RSA"],
)
def test_a_key_in_aws_kms_signs(aws, prove, make):
    aws.key = make()
    prove(f"aws-kms:{ARN}", aws.key.public_key(), endpoint=aws.url)
    assert aws.calls == ["GetPublicKey", "Sign"]


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "EC_SIGN_P256_SHA256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "EC_SIGN_P384_SHA384"),
        (lambda: rsa.generate_private_key(65537, 3072), "RSA_SIGN_PSS_3072_SHA256"),
    ],
)
def test_a_key_in_google_cloud_kms_signs(google, prove, make, algorithm, monkeypatch):
    google.key = make()
    monkeypatch.setattr(stand_ins.GoogleKms, "algorithm", algorithm)
    prove(f"gcp-kms:{VERSION}", google.key.public_key(), endpoint=google.url)
    assert google.calls == ["getPublicKey", "asymmetricSign"]


AWS_FAILURES = [
    (
        (400, {"__type": "AccessDeniedException", "message": "User ada may not kms:Sign"}),
        "signer_denied",
        "ada may not",
    ),
    ((400, {"__type": "DisabledException", "message": "key is disabled"}), "signer_denied", "key is disabled"),
    ((400, {"__type": "NotFoundException", "message": "no such key"}), "signer_denied", "no such key"),
    ((400, {"__type": "ThrottlingException", "message": "Rate exceeded"}), "signer_unavailable", "Rate exceeded"),
    ((500, {"__type": "KMSInternalException", "message": "our fault"}), "signer_unavailable", "our fault"),
]


@pytest.mark.parametrize(("failure", "code", "words"), AWS_FAILURES)
def test_an_outage_of_aws_is_told_from_a_refusal_in_its_own_words(aws, failure, code, words):
    aws.failure = failure
    for call in (lambda key: key.public_key(), lambda key: key.sign_digest(b"d" * 32, "es256")):
        with pytest.raises(SignerError) as caught:
            call(open_key(f"aws-kms:{ARN}", endpoint=aws.url))
        assert caught.value.code == code
        assert words in caught.value.detail
        assert words in str(caught.value)
        assert words not in caught.value.message  # what a customer reads does not tell of the operator's house
    assert len(aws.calls) <= 4


GOOGLE_FAILURES = [
    (403, "PERMISSION_DENIED", "signer_denied"),
    (404, "NOT_FOUND", "signer_denied"),
    (400, "FAILED_PRECONDITION", "signer_denied"),
    (429, "RESOURCE_EXHAUSTED", "signer_unavailable"),
    (503, "UNAVAILABLE", "signer_unavailable"),
    (500, "INTERNAL", "signer_unavailable"),
]


@pytest.mark.parametrize(("status", "name", "code"), GOOGLE_FAILURES)
def test_an_outage_of_google_is_told_from_a_refusal_in_its_own_words(google, monkeypatch, status, name, code):
    monkeypatch.setattr(key_gcp, "READ_SECONDS", 1.0)  # the client goes on asking a service that is down until then
    google.failure = (status, {"error": {"code": status, "message": f"the very words of {name}", "status": name}})
    for call in (lambda key: key.public_key(), lambda key: key.sign_digest(b"d" * 32, "es256")):
        with pytest.raises(SignerError) as caught:
            call(open_key(f"gcp-kms:{VERSION}", endpoint=google.url))
        assert caught.value.code == code
        assert f"the very words of {name}" in caught.value.detail


@pytest.mark.parametrize("how", ["hangs", "is gone"])
def test_a_service_that_does_not_answer_is_an_outage_after_a_bounded_time(aws, google, monkeypatch, how):
    for module in (key_aws, key_gcp):
        monkeypatch.setattr(module, "READ_SECONDS", 0.3)
    for uri, service in ((f"aws-kms:{ARN}", aws), (f"gcp-kms:{VERSION}", google)):
        service.failure = "hang"
        endpoint = service.url if how == "hangs" else "http://127.0.0.1:9"
        with pytest.raises(SignerError) as caught:
            open_key(uri, endpoint=endpoint).sign_digest(b"d" * 32, "es256")
        assert caught.value.code == "signer_unavailable"


def test_an_answer_of_google_that_was_damaged_on_the_way_is_not_used(google, monkeypatch):
    monkeypatch.setattr(stand_ins.GoogleKms, "damaged", True)
    key = open_key(f"gcp-kms:{VERSION}", endpoint=google.url)
    for call in (key.public_key, lambda: key.sign_digest(b"d" * 32, "es256")):
        with pytest.raises(SignerError) as caught:
            call()
        assert caught.value.code == "signer_unavailable"
        assert "damaged" in caught.value.detail


def test_a_key_of_google_that_c2pa_does_not_know_is_named(google, monkeypatch):
    monkeypatch.setattr(stand_ins.GoogleKms, "algorithm", "RSA_SIGN_PKCS1_2048_SHA256")
    with pytest.raises(SignerError) as caught:
        open_key(f"gcp-kms:{VERSION}", endpoint=google.url).public_key()
    assert caught.value.code == "signer_denied"
    assert "RSA_SIGN_PKCS1_2048_SHA256" in caught.value.detail


def test_aws_without_credentials_is_a_refusal(aws, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(SignerError) as caught:
        open_key("aws-kms:alias/claims", endpoint=aws.url).public_key()
    assert caught.value.code == "signer_denied"
    assert "credentials" in caught.value.detail


def test_a_chain_of_another_key_is_refused_before_anything_is_signed(aws):
    chain, _ = certified(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(SignerError) as caught:
        service_signer(chain, open_key(f"aws-kms:{ARN}", endpoint=aws.url))
    assert caught.value.code == "signer_invalid"
    assert "certs rotate" in caught.value.message
    assert aws.calls == ["GetPublicKey"]


def test_the_words_of_a_service_reach_the_check_and_survive_the_signing_library(
    aws, plain_media, request_for, tmp_path
):
    chain, root = certified(aws.key.public_key())
    signer = service_signer(chain, open_key(f"aws-kms:{ARN}", endpoint=aws.url))
    aws.failure = AWS_FAILURES[0][0]
    with pytest.raises(SignerError) as caught:
        sign_file(plain_media["image/jpeg"], tmp_path / "o.jpg", request_for("image/jpeg"), signer, anchors_pem=root)
    assert caught.value.code == "signer_denied"
    assert "User ada may not kms:Sign" in caught.value.detail
    assert list(tmp_path.iterdir()) == []
    finding = check_signer(signer, root)[0]
    assert (finding.code, finding.fatal) == ("signer_denied", True)
    assert "User ada may not kms:Sign" in finding.message


@pytest.mark.parametrize(
    "uri",
    [
        "azure:key",
        "aws-kms:",
        "pkcs11:token=t;object=o",
        "pkcs11:token=t?module-path=/lib.so",
        "pkcs11:object=o?module-path=/lib.so",
        "pkcs11:token=t;object=o?module-path=/lib.so&pin-value=1234",
        "pkcs11:token=t;object=o;serial=3?module-path=/lib.so",
    ],
)
def test_an_address_that_names_no_key_is_refused(uri):
    with pytest.raises(SignerError) as caught:
        open_key(uri)
    assert caught.value.code == "signer_invalid"
    assert "SIGNER_KEY_URI" in caught.value.message
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "uri", "extra"),
    [
        ("key_aws", f"aws-kms:{ARN}", "kms-aws"),
        ("key_gcp", f"gcp-kms:{VERSION}", "kms-gcp"),
        ("key_pkcs11", "pkcs11:token=t;object=o?module-path=/lib.so", "pkcs11"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch, module, uri, extra):
    monkeypatch.setitem(sys.modules, f"watermark.{module}", None)
    with pytest.raises(SignerError) as caught:
        open_key(uri)
    assert caught.value.code == "signer_missing"
    assert f"extra {extra} " in caught.value.message


# --- a real token ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SoftHSM2 token with two key pairs; the address of its keys up to the object's name."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed (Debian: softhsm2)")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    (folder / "pin").write_text("123456\n")
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
    initialise = ["softhsm2-util", "--init-token", "--free", "--label", "signing house"]
    subprocess.run([*initialise, "--pin", "123456", "--so-pin", "654321"], check=True, capture_output=True)
    import pkcs11

    library = pkcs11.lib(module)
    library.reinitialize()
    with library.get_token(token_label="signing house").open(rw=True, user_pin="123456") as session:
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        curve.generate_keypair(store=True, label="claims")
        session.generate_keypair(pkcs11.KeyType.RSA, 2048, store=True, label="claims rsa", id=b"\x07")
    yield f"pkcs11:token=signing%20house;object={{}}?module-path={module}&pin-source=file:{folder}/pin"
    patch.undo()


@pytest.mark.parametrize("label", ["claims", "claims%20rsa"])
def test_a_key_in_a_hardware_module_signs(token, prove, label):
    uri = token.format(label)
    public = open_key(uri).public_key()
    prove(uri, public)
    prove_id = token.replace("object={}", "id=%07").format()
    assert open_key(prove_id).public_key() == open_key(token.format("claims%20rsa")).public_key()


@pytest.mark.parametrize(
    ("change", "pin", "code", "words"),
    [
        (lambda uri: uri.replace("signing%20house", "elsewhere"), "", "signer_unavailable", "NoSuchToken"),
        (lambda uri: uri.replace("claims", "nothing"), "", "signer_denied", "NoSuchKey"),
        (lambda uri: uri, "000000", "signer_denied", "PinIncorrect"),
        (lambda uri: uri.replace("libsofthsm2", "nowhere"), "", "signer_denied", "nowhere"),
    ],
)
def test_what_a_hardware_module_says_is_told_apart(token, change, pin, code, words):
    with pytest.raises(SignerError) as caught:
        open_key(change(token.format("claims")), pin=pin).sign_digest(b"d" * 32, "es256")
    assert (caught.value.code, words in caught.value.detail) == (code, True), caught.value.detail
    assert "000000" not in str(caught.value)


def test_a_module_that_hangs_is_an_outage_after_a_bounded_time_and_blocks_nobody_for_ever(token, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(key_pkcs11, "CALL_SECONDS", 0.2)
    with monkeypatch.context() as hanging:
        hanging.setattr(key_pkcs11.pkcs11, "lib", lambda path: released.wait(30))
        for words in ("no whole answer", "no whole answer|not come back"):
            with pytest.raises(SignerError, match=words) as caught:
                open_key(token.format("claims")).public_key()
            assert caught.value.code == "signer_unavailable"
    released.set()
    monkeypatch.setattr(key_pkcs11, "CALL_SECONDS", 5.0)
    assert open_key(token.format("claims")).sign_digest(b"d" * 32, "es256")


def test_a_pin_is_not_shown_with_the_key(token):
    assert "123456" not in repr(open_key(token.format("claims")))


def test_a_pin_that_cannot_be_read_is_named(token):
    with pytest.raises(SignerError) as caught:
        open_key(token.format("claims").replace("/pin", "/nowhere"))
    assert caught.value.code == "signer_missing"


FORK = """
import os, sys
from watermark.key_services import open_key

key = open_key(sys.argv[1])
assert key.sign_digest(b"d" * 32, "es256")
child = os.fork()
if child == 0:
    try:
        os._exit(0 if len(key.sign_digest(b"d" * 32, "es256")) == 64 else 1)
    finally:
        os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_hardware_key_signs_in_a_process_that_was_forked_after_its_use(token):
    # From a fresh process, as workers are: a fork here would copy locks that threads of other tests hold.
    command = [sys.executable, "-c", FORK, token.format("claims")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
