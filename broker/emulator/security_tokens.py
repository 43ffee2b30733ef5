"""The two operations of STS: AssumeRole (any role) and GetCallerIdentity."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Final

from broker.emulator.callers import Caller, Callers, Clock
from broker.emulator.errors import AwsError, invalid_input
from broker.emulator.shapes import Answer, Parameters

_ROLE: Final = re.compile(r"arn:aws:iam::(\d{12}):role/(?:[\w+=,.@/-]+/)?([\w+=,.@-]{1,64})", re.ASCII)
_USUAL_DURATION: Final = 3600
_LONGEST_CHAINED: Final = 3600


class SecurityTokens:
    """STS. Sessions that it opens are known to `callers` from then on."""

    def __init__(self, callers: Callers, clock: Clock) -> None:
        self._callers = callers
        self._clock = clock

    async def perform(self, operation: str, caller: Caller, parameters: Parameters) -> Answer:
        """Perform one of the two operations; raises AwsError."""
        if operation == "GetCallerIdentity":
            return {"UserId": caller.user_id, "Account": caller.account_id, "Arn": caller.arn}
        return self._assume_role(caller, parameters)

    def _assume_role(self, caller: Caller, parameters: Parameters) -> Answer:
        role = _ROLE.fullmatch(str(parameters["RoleArn"]))
        if role is None:
            raise invalid_input("RoleArn is not the ARN of a role.")
        account_id, role_name = role.groups()
        seconds = int(parameters.get("DurationSeconds", _USUAL_DURATION))
        if caller.is_temporary and seconds > _LONGEST_CHAINED:
            raise invalid_input("The duration exceeds the 1 hour session limit for roles assumed by role chaining.")
        session = str(parameters["RoleSessionName"])
        user_id = f"AROA{hashlib.sha256(role.group().encode()).hexdigest()[:16].upper()}:{session}"
        key = self._callers.give_out(
            account_id=account_id,
            arn=f"arn:aws:sts::{account_id}:assumed-role/{role_name}/{session}",
            user_id=user_id,
            expires_at=self._clock() + timedelta(seconds=seconds),
            source=_source_identity(caller, parameters),
        )
        answer: dict[str, object] = {
            "Credentials": {
                "AccessKeyId": key.access_key_id,
                "SecretAccessKey": key.secret,
                "SessionToken": key.token,
                "Expiration": key.expires_at,
            },
            "AssumedRoleUser": {"AssumedRoleId": user_id, "Arn": key.arn},
        }
        return answer if key.source_identity is None else answer | {"SourceIdentity": key.source_identity}


def _source_identity(caller: Caller, parameters: Parameters) -> str | None:
    """Answer the identity that the session carries: once set it stays through a chain of roles."""
    asked = parameters.get("SourceIdentity")
    if caller.source_identity is not None and asked not in (None, caller.source_identity):
        raise AwsError("AccessDeniedException", "The source identity of a chained session cannot be changed.")
    return caller.source_identity or (None if asked is None else str(asked))
