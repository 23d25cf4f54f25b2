"""What `certs check` and `doctor` say about signing: the same findings, with the same weight, from the same look."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from django.conf import settings
from PIL import Image

from watermark import manifest
from watermark.certificates import Finding, check_key_file, check_signer
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestError, ManifestRequest
from watermark.signers import Signer, SignerError
from watermark.timestamps import TimeStampError
from webapp import keys_of_house
from webapp.jobs.signing import sign_in_child
from webapp.profile import is_live
from worker.media.errors import MediaError

EXIT_CODES = {0: "in order", 1: "signs, but something ends soon or is weak", 2: "cannot sign, or nobody would know it"}


def findings() -> list[Finding]:
    """Worst first; empty when all is well. `fatal`: jobs would not be published, or not be recognised as ours."""
    try:
        signer = keys_of_house.signer()
        found = check_signer(signer, keys_of_house.anchors_pem())
        if settings.SIGNER_KEY_FILE:
            found += check_key_file(Path(settings.SIGNER_KEY_FILE))
        if not any(finding.fatal for finding in found):
            found += _time_stamps(signer)
    except (SignerError, keys_of_house.KeysError) as error:
        return [Finding(error.code, str(error), fatal=True)]
    except OSError as error:
        return [Finding("signer_missing", f"A certificate or key cannot be read: {error}", fatal=True)]
    if is_live():
        found = [Finding(each.code, each.message, each.fatal or each.code == "development") for each in found]
    return sorted(found, key=lambda finding: not finding.fatal)


def exit_code(found: list[Finding]) -> int:
    """0, 1 or 2 as monitoring plug-ins use them (EXIT_CODES). The development signer of an evaluation is no fault."""
    if any(finding.fatal for finding in found):
        return 2
    return 1 if any(finding.code != "development" for finding in found) else 0


def _time_stamps(signer: Signer) -> list[Finding]:
    """Sign a small picture as an output is signed, and see who vouches for its time."""
    service = keys_of_house.tsa()
    if service is None:
        words = "No time-stamp service is set (TSA_URL): a manifest is not valid past the life of its certificate."
        return [Finding("tsa_missing", words, fatal=False)] if is_live() else []
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "JPEG")
    request = ManifestRequest(
        mime="image/jpeg",
        target=IngredientFile("image/jpeg"),
        sources=(IngredientFile("image/jpeg"),),
        mark_id=bytes(8),
        consent_refs=(ConsentRef("cns_check", "face_donor"),),
        policy_version="check",
        livemode=False,
        status_url="http://localhost",
    )
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.jpg"
        source.write_bytes(content.getvalue())
        try:
            signed = manifest.sign_file(
                source,
                Path(name) / "out.jpg",
                request,
                signer,
                anchors_pem=keys_of_house.anchors_pem(),
                tsa=service,
                tsa_anchors_pem=keys_of_house.tsa_anchors_pem(),
                native=sign_in_child,
            )
        except TimeStampError as error:
            return [Finding(error.code, str(error), fatal=settings.TSA_WHEN_DOWN == "wait")]
        except (ManifestError, MediaError) as error:
            return [Finding(error.code, str(error), fatal=True)]
    if signed.credentials.time_source == "tsa":
        return []
    words = "The time-stamp service answers, but its root is not in TSA_ANCHORS_FILE: its time counts as our own claim."
    return [Finding("tsa_untrusted", words, fatal=False)]
