"""Who may vouch for a caller, and under which conditions (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from broker.identity.keys import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One entry of `[[issuers]]`, with the contract's names and defaults.

    The key set comes from `jwks_file`, from `jwks_uri`, or with neither from OpenID Connect discovery at `issuer`.

    Raises:
        ValueError: the entry contradicts itself or names an algorithm that is not asymmetric.
    """

    name: str
    issuer: str
    audience: str
    jwks_file: Path | None = None
    jwks_uri: str = ""
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    principal: Literal["user", "workload"] = "user"
    subject_claim: str = "sub"
    groups_claim: str = "groups"
    token_types: tuple[str, ...] = ("at+jwt",)
    max_token_age: timedelta = timedelta(hours=12)
    require: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    mfa_acr: tuple[str, ...] = ()
    require_binding: bool = False

    def __post_init__(self) -> None:
        problems = {
            "name is not 1 to 64 letters, digits, '.', '_' or '-'": _NAME.fullmatch(self.name) is None,
            "issuer, audience and subject_claim must not be empty": not (
                self.issuer and self.audience and self.subject_claim
            ),
            "jwks_file and jwks_uri exclude each other": self.jwks_file is not None and bool(self.jwks_uri),
            f"algorithms must be some of {', '.join(ALGORITHMS)}": not self.algorithms
            or not set(self.algorithms) <= ALGORITHMS.keys(),
            "token_types must not be empty": not self.token_types,
            "max_token_age must be positive": self.max_token_age <= timedelta(0),
        }
        found = [sentence for sentence, wrong in problems.items() if wrong]
        if found:
            raise ValueError(f"issuer {self.name!r}: {'; '.join(found)}")
