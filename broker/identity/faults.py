"""The causes for which a token is refused: for the log and its counters, never for the one who sent it (pure)."""

from __future__ import annotations

from enum import StrEnum

from broker.errors import InvalidToken


class Fault(StrEnum):
    """Why a token was refused. A closed list of stable words, so that strangers cannot invent counters."""

    MISSING = "missing"
    """No Authorization header at all."""
    BAD_AUTHORIZATION = "bad_authorization"
    """Several Authorization headers, another scheme, or not one space before one token."""
    MALFORMED = "malformed"
    """Not a compact JWS of strict JSON objects."""
    BAD_HEADER = "bad_header"
    """A header member that is missing, of the wrong type, or not allowed."""
    BAD_DATE = "bad_date"
    """A NumericDate that is no integer within reason."""
    UNKNOWN_ISSUER = "unknown_issuer"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    """Not on the issuer's list, or not what the key is for."""
    WRONG_TYPE = "wrong_type"
    """A token of another kind: its `typ`, or claims that only other kinds carry."""
    KEYS_UNAVAILABLE = "keys_unavailable"
    """The issuer's keys were never fetched, or are too old to be believed."""
    KEY_ID_MISSING = "key_id_missing"
    """The issuer has several keys and the token names none."""
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    TOO_OLD = "too_old"
    """Issued longer ago than the issuer's `max_token_age`."""
    BAD_LIFETIME = "bad_lifetime"
    """Its dates contradict each other, or it lives longer than any access token should."""
    CLAIM_MISSING = "claim_missing"
    BAD_SUBJECT = "bad_subject"
    BAD_GROUPS = "bad_groups"
    REQUIRED_CLAIM = "required_claim"
    """A claim that the settings `require` is missing or different."""
    BINDING_UNPROVED = "binding_unproved"
    """The token is bound to a key (`cnf`), and nothing proves that the sender holds it."""
    BAD_PROOF = "bad_proof"
    """No DPoP proof, several, or one that is malformed, of another algorithm or wrongly signed."""
    NONCE_NEEDED = "nonce_needed"
    """The DPoP proof has none of our nonces, or an old one; it comes again with the one of the answer."""
    PROOF_FOR_ANOTHER = "proof_for_another"
    """The DPoP proof was made for another method, address or token."""
    PROOF_STALE = "proof_stale"
    """The DPoP proof was made too long ago, or in the future."""
    PROOF_REPLAYED = "proof_replayed"
    """The DPoP proof was used before."""
    BINDING_REQUIRED = "binding_required"
    """The issuer's tokens must be bound, and this one is not."""
    TOO_MANY_FAILURES = "too_many_failures"
    """Not looked at: too much that came from the same address was refused within the last minute."""
    NO_SESSION = "no_session"
    """No session of the console, or one that has been signed out of."""
    SESSION_ENDED = "session_ended"
    """It was idle too long, or went on too long."""
    UNKNOWN_LINK = "unknown_link"
    """A one-time link that nobody made, or that was used."""
    FOREIGN_LOGIN = "foreign_login"
    """An answer of the provider to a login that this browser did not begin."""
    FOREIGN_FORM = "foreign_form"
    """A form that came from no page of ours."""


OF_THE_CONSOLE = frozenset(
    {Fault.NO_SESSION, Fault.SESSION_ENDED, Fault.UNKNOWN_LINK, Fault.FOREIGN_FORM, Fault.FOREIGN_LOGIN}
)
"""Of sessions, links and logins rather than of tokens."""


def refused(fault: Fault) -> InvalidToken:
    """Make the one error of this room; it carries the cause and nothing of the token."""
    return InvalidToken(fault.value)
