"""What goes wrong with certificates is reported as exactly as the files and the archive allow."""

from __future__ import annotations

import ssl

import pytest
from tests.unit.site.pacs.conftest import archive_at

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.site.pacs.peer import Access, StudyQuery
from lesionlens.site.pacs.tls import client_context, server_context, tls_reason


def test_half_a_configuration_names_the_half_that_is_missing(certificates, tmp_path):
    folder = certificates.client.parent
    both = tmp_path / "both.pem"
    both.write_text((folder / "client.crt").read_text() + (folder / "server.key").read_text())
    locked = tmp_path / "locked.pem"
    head = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
    locked.write_text((folder / "client.crt").read_text() + f"{head}\n")
    for file, words in (
        (folder / "client.crt", "without its key"),
        (folder / "client.key", "without its certificate"),
        (both, "another certificate"),
        (locked, "locked by a pass phrase"),
    ):
        with pytest.raises(UnusableInputError, match=words):
            client_context(Access(certificate=file))


def test_a_study_that_comes_by_c_move_over_tls_needs_our_certificate(certificates):
    with pytest.raises(UnusableInputError, match="without our certificate") as error:
        server_context(Access(ca=certificates.authority))
    assert "--cert" in error.value.next_step


def test_an_archive_that_asks_for_our_certificate_says_so(secure_orthanc, certificates, password):
    archive = archive_at(secure_orthanc, "get", ca=certificates.authority)
    with pytest.raises(ResourceError, match="require our certificate") as error:
        archive.find(StudyQuery())
    assert "--cert" in error.value.next_step


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "--cert"),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", "--cert"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate", "--ca"),
        ("certificate verify failed: Hostname mismatch, not valid for 'x'", "name"),
        ("certificate verify failed: certificate has expired", "clock"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "port"),
    ],
)
def test_each_failure_of_tls_has_its_own_advice(words, advice):
    found = tls_reason(ssl.SSLError(words))
    assert found is not None
    assert advice in found[1]


def test_what_is_no_matter_of_tls_is_left_alone():
    assert tls_reason(ConnectionResetError("Connection reset by peer")) is None
