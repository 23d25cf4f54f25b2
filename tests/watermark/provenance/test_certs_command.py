"""`manage.py certs`: makes, shows and checks the signer of this deployment."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from watermark import issuing
from watermark.signers import DevelopmentAuthority


def certs(action: str) -> str:
    out = io.StringIO()
    call_command("certs", action, stdout=out, no_color=True)
    return out.getvalue()


@pytest.fixture(autouse=True)
def deployment(settings, tmp_path):
    settings.SIGNER_DIR = tmp_path / "signer"
    settings.PROFILE = "evaluation"
    settings.SIGNER_CHAIN_FILE = settings.SIGNER_KEY_FILE = settings.SIGNER_ANCHORS_FILE = ""
    return tmp_path


def test_a_development_signer_is_made_once_and_says_that_it_is_untrusted(deployment):
    assert "UNTRUSTED" in certs("init-dev")
    root = DevelopmentAuthority.open(deployment / "signer").root_pem
    assert "UNTRUSTED" in certs("init-dev")
    assert DevelopmentAuthority.open(deployment / "signer").root_pem == root
    shown = certs("show")
    assert shown.count("sha256") == 3
    assert "Imprimatur UNTRUSTED development signer" in shown
    assert "UNTRUSTED" in certs("check")


def test_a_signer_that_cannot_be_used_ends_with_an_error(deployment, settings):
    root = issuing.issue_root()
    (deployment / "chain.pem").write_text(root.certificate_pem)
    (deployment / "signer.key").write_bytes(root.key_pem)
    settings.SIGNER_CHAIN_FILE = str(deployment / "chain.pem")
    settings.SIGNER_KEY_FILE = str(deployment / "signer.key")
    with pytest.raises(CommandError, match="cannot be used"):
        certs("check")
    settings.SIGNER_CHAIN_FILE = str(deployment / "nowhere.pem")
    with pytest.raises(CommandError, match=r"cannot be read|No such file"):
        certs("check")
