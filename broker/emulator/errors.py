"""The one error that an operation raises; each wire writes it in its own way."""

from __future__ import annotations

from typing import Final

# AWS documents 400 for InvalidInput; for the others it is the habit of its JSON services (an assumption).
_SERVER_SIDE: Final = {"ServiceException": 500, "InternalFailure": 500, "ServiceUnavailable": 503}


class AwsError(Exception):
    """An answer that is an error: AWS's type name and a sentence. The HTTP status follows from the type."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"{error_type}: {message}")
        self.type = error_type
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status of the JSON services: 5xx for faults of the service, 400 for all else."""
        return _SERVER_SIDE.get(self.type, 400)


def invalid_input(message: str) -> AwsError:
    """Answer the error for a value that breaks a rule of its field."""
    return AwsError("InvalidInputException", message)


def not_found(kind: str, name: str) -> AwsError:
    """Answer the error for a resource that is not in this account and Region."""
    return AwsError("NotFoundException", f"The {kind} does not exist in this Region: {name}")
