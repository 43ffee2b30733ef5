"""The two wire protocols: AWS JSON 1.1, which Lightsail speaks, and the query protocol of STS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, Final, Protocol
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, SubElement, tostring

from aiohttp import web
from botocore.model import OperationModel, StructureShape
from multidict import CIMultiDictProxy

from broker.emulator.errors import AwsError
from broker.emulator.shapes import Answer, check_output, service_model

LIGHTSAIL_OPERATIONS: Final = frozenset(
    {
        "GetInstanceAccessDetails",
        "GetBlueprints",
        "GetBundles",
        "GetInstance",
        "GetInstances",
        "GetInstanceState",
        "GetInstancePortStates",
        "GetKeyPair",
        "GetKeyPairs",
        "GetRegions",
    }
)
STS_OPERATIONS: Final = frozenset({"AssumeRole", "GetCallerIdentity"})


class Wire(Protocol):
    """How one service reads a call and writes its answers."""

    service: ClassVar[str]

    def operation(self, name: str) -> OperationModel:
        """Answer the model of an operation that is offered; raises AwsError for any other."""

    def name(self, headers: CIMultiDictProxy[str], body: bytes) -> str:
        """Tell which operation is called, as the caller wrote it."""

    def members(self, body: bytes) -> Mapping[str, object]:
        """Read the members of the call, not checked yet; raises AwsError for what cannot be read."""

    def answer(self, operation: OperationModel, answer: Answer, request_id: str) -> web.Response:
        """Write an answer, held against the operation's output shape."""

    def error(self, error: AwsError, request_id: str) -> web.Response:
        """Write an error."""


class JsonWire:
    """AWS JSON 1.1: the operation in `X-Amz-Target`, members in a JSON body, moments as epoch seconds."""

    service: ClassVar[str] = "lightsail"

    def operation(self, name: str) -> OperationModel:
        """Answer the model of an operation that is offered; raises AwsError for any other."""
        return _offered(self.service, name, LIGHTSAIL_OPERATIONS)

    def name(self, headers: CIMultiDictProxy[str], body: bytes) -> str:
        """Tell which operation `X-Amz-Target` names; "" for another service's target."""
        del body
        prefix, _, name = headers.get("X-Amz-Target", "").partition(".")
        return name if prefix == service_model(self.service).metadata["targetPrefix"] else ""

    def members(self, body: bytes) -> Mapping[str, object]:
        """Read the JSON object of the call; raises AwsError when it is none."""
        try:
            members = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise AwsError("SerializationException", "The body is not JSON.") from error
        if not isinstance(members, dict):
            raise AwsError("SerializationException", "The body is not a JSON object.")
        return members

    def answer(self, operation: OperationModel, answer: Answer, request_id: str) -> web.Response:
        """Write an answer as JSON, held against the operation's output shape."""
        check_output(operation, answer)
        return self._response(json.dumps(answer, default=_epoch_seconds), 200, request_id)

    def error(self, error: AwsError, request_id: str) -> web.Response:
        """Write an error with the four members that every modelled Lightsail error has."""
        body = {
            "__type": error.type,
            "code": error.type,
            "docs": f"https://example.com/errors/{error.type}",
            "message": error.message,
            "tip": "This is the embedded Lightsail.",
        }
        return self._response(json.dumps(body), error.status, request_id)

    def _response(self, text: str, status: int, request_id: str) -> web.Response:
        return web.Response(
            body=text.encode(),
            status=status,
            headers={"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": request_id},
        )


class QueryWire:
    """AWS query protocol: operation and members in a form, answers in XML, moments as ISO 8601."""

    service: ClassVar[str] = "sts"
    # STS names the common errors differently, and answers 403 where one is not let in.
    _TYPES: ClassVar[Mapping[str, tuple[str, int]]] = {
        "ExpiredTokenException": ("ExpiredToken", 403),
        "InvalidInputException": ("ValidationError", 400),
        "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
        "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
        "SerializationException": ("ValidationError", 400),
        "ThrottlingException": ("Throttling", 400),
        "UnknownOperationException": ("InvalidAction", 400),
        "UnrecognizedClientException": ("InvalidClientTokenId", 403),
        "AccessDeniedException": ("AccessDenied", 403),
    }

    def operation(self, name: str) -> OperationModel:
        """Answer the model of an operation that is offered; raises AwsError for any other."""
        return _offered(self.service, name, STS_OPERATIONS)

    def name(self, headers: CIMultiDictProxy[str], body: bytes) -> str:
        """Tell which operation the form's `Action` names; "" for another version of the service."""
        del headers
        form = _form(body)
        return form.get("Action", "") if form.get("Version") == service_model(self.service).api_version else ""

    def members(self, body: bytes) -> Mapping[str, object]:
        """Read the members of the form; text that is a whole number is one where the model says so."""
        integers = ("DurationSeconds",)
        return {name: _number(text) if name in integers else text for name, text in _form(body).items()}

    def answer(self, operation: OperationModel, answer: Answer, request_id: str) -> web.Response:
        """Write an answer as XML, held against the operation's output shape."""
        shape = check_output(operation, answer)
        root = Element(f"{operation.name}Response", xmlns=operation.metadata["xmlNamespace"])
        _write(SubElement(root, shape.serialization["resultWrapper"]), shape, answer)
        SubElement(SubElement(root, "ResponseMetadata"), "RequestId").text = request_id
        return self._response(root, 200, request_id)

    def error(self, error: AwsError, request_id: str) -> web.Response:
        """Write an error under STS's own name for it."""
        error_type, status = self._TYPES.get(error.type, (error.type.removesuffix("Exception"), error.status))
        root = Element("ErrorResponse", xmlns=service_model(self.service).metadata["xmlNamespace"])
        details = SubElement(root, "Error")
        SubElement(details, "Type").text = "Sender" if status < web.HTTPInternalServerError.status_code else "Receiver"
        SubElement(details, "Code").text = error_type
        SubElement(details, "Message").text = error.message
        SubElement(root, "RequestId").text = request_id
        return self._response(root, status, request_id)

    def _response(self, root: Element, status: int, request_id: str) -> web.Response:
        return web.Response(
            body=tostring(root), status=status, headers={"Content-Type": "text/xml", "x-amzn-RequestId": request_id}
        )


def wire_of(headers: CIMultiDictProxy[str]) -> Wire:
    """Tell which protocol a call speaks: the query protocol sends a form, everything else is for Lightsail."""
    is_form = headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
    return QueryWire() if is_form and "X-Amz-Target" not in headers else JsonWire()


def _offered(service: str, name: str, offered: frozenset[str]) -> OperationModel:
    if name not in offered:
        raise AwsError("UnknownOperationException", "The operation is not known or not offered here.")
    return service_model(service).operation_model(name)


def _epoch_seconds(value: object) -> float:
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    raise TypeError(f"an answer cannot hold a {type(value).__name__}")


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text  # noqa: PLR2004 - fits 32 bits


def _write(parent: Element, shape: StructureShape, answer: Answer) -> None:
    for name, member in shape.members.items():
        value = answer.get(name)
        if value is None:
            continue
        child = SubElement(parent, name)
        if isinstance(member, StructureShape) and isinstance(value, Mapping):
            _write(child, member, value)
        else:
            child.text = _text(value)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)
