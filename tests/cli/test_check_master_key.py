"""`broker check` asks of KMS what the service will ask, and names the action that is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from broker.cli.check import _of_master_key
from broker.unsealing.masterkeys import KmsMasterKey, LocalMasterKey

ARN = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"


class Refused(Exception):
    """As botocore tells of a refusal."""

    response: Mapping[str, object] = {"Error": {"Code": "AccessDeniedException"}}


class SparingKeyService:
    """A KMS that allows some of its operations only."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = allowed

    async def encrypt(self, *, KeyId: str, Plaintext: bytes, EncryptionContext: Mapping[str, str]) -> dict[str, bytes]:  # noqa: N803 - botocore's names
        del KeyId, EncryptionContext
        return self._answer("kms:Encrypt", "CiphertextBlob", Plaintext)

    async def decrypt(
        self,
        *,
        KeyId: str,  # noqa: N803 - botocore's names
        CiphertextBlob: bytes,  # noqa: N803 - same
        EncryptionContext: Mapping[str, str],  # noqa: N803 - same
    ) -> dict[str, bytes]:
        del KeyId, EncryptionContext
        return self._answer("kms:Decrypt", "Plaintext", CiphertextBlob)

    def _answer(self, action: str, member: str, value: bytes) -> dict[str, bytes]:
        if action not in self._allowed:
            raise Refused
        return {member: value}


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [(("kms:Decrypt",), "kms:Encrypt"), (("kms:Encrypt",), "kms:Decrypt")],
)
async def test_the_action_that_kms_refuses_is_named_without_the_key(allowed: tuple[str, ...], refused: str) -> None:
    [problem] = await _of_master_key(KmsMasterKey(ARN, SparingKeyService(*allowed)))
    assert problem == f"{refused} does not work: KMS: AccessDeniedException"


async def test_a_master_key_that_opens_what_it_sealed_is_no_problem() -> None:
    assert await _of_master_key(KmsMasterKey(ARN, SparingKeyService("kms:Encrypt", "kms:Decrypt"))) == []
    assert await _of_master_key(LocalMasterKey(os.urandom(32))) == []
