"""Requests and answers held against botocore's own model of the service, so that they cannot drift from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

from broker.emulator.errors import AwsError, invalid_input
from broker.emulator.names import is_resource_name

Parameters = Mapping[str, str | bool | int]
"""What an operation is given: checked scalars; absent optional members are absent."""

Answer = Mapping[str, object]
"""What an operation gives: members by AWS's names, moments as aware datetimes."""

_SCALARS: Final = frozenset({"string", "boolean", "integer"})
# The model's other patterns are written for another engine, or are checked where they mean something.
_PATTERNED: Final = frozenset({"roleSessionNameType", "externalIdType", "sourceIdentityType"})


@cache
def service_model(name: str) -> ServiceModel:
    """Load botocore's model of a service, such as `lightsail`."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def checked_input(operation: OperationModel, raw: Mapping[str, object]) -> Parameters:
    """Hold what was sent against the operation's input shape; only its scalar members are understood.

    `null` counts as absent and unknown members are ignored, as AWS does.

    Raises:
        AwsError: SerializationException for a wrong type, InvalidInputException for all else.
    """
    shape = _structure(operation.input_shape)
    given = {name: value for name, value in raw.items() if name in shape.members and value is not None}
    missing = [name for name in shape.required_members if name not in given]
    if missing:
        raise invalid_input(f"Missing required member: {', '.join(missing)}")
    scalars = {name: member for name, member in shape.members.items() if member.type_name in _SCALARS}
    return {name: _checked(name, scalars[name], given[name]) for name in given if name in scalars}


def _checked(name: str, shape: Shape, value: object) -> str | bool | int:
    scalar = _typed(shape, value)
    if scalar is None:
        raise AwsError("SerializationException", f"The member {name} must be of type {shape.type_name}.")
    if broken := next(_broken_rules(shape, scalar), None):
        raise invalid_input(f"The value of {name} is not valid: {broken}.")
    return scalar


def _typed(shape: Shape, value: object) -> str | bool | int | None:
    match shape.type_name, value:
        case ("string", str(scalar)) | ("boolean", bool(scalar)):
            return scalar
        case ("integer", int(scalar)) if not isinstance(scalar, bool):
            return scalar
    return None


def _broken_rules(shape: Shape, value: str | int) -> Iterator[str]:
    measure, unit = (len(value), "characters") if isinstance(value, str) else (value, "in value")
    if measure < shape.metadata.get("min", measure):
        yield f"at least {shape.metadata['min']} {unit}"
    if measure > shape.metadata.get("max", measure):
        yield f"at most {shape.metadata['max']} {unit}"
    if not isinstance(value, str):
        return
    if (choices := shape.metadata.get("enum")) and value not in choices:
        yield f"one of {', '.join(choices)}"
    if shape.name == "ResourceName" and not is_resource_name(value):
        yield "letters, digits, '.', '-' and '_', 2 to 255, first and last a letter or digit"
    if shape.name in _PATTERNED and not re.fullmatch(shape.metadata["pattern"], value, re.ASCII):
        yield f"the pattern {shape.metadata['pattern']}"


def check_output(operation: OperationModel, answer: Answer) -> StructureShape:
    """Hold an answer against the operation's output shape and answer that shape.

    Raises:
        TypeError: The emulator made an answer that AWS could not have given: a programming error.
    """
    shape = _structure(operation.output_shape)
    report = ParamValidator().validate(answer, shape)
    if report.has_errors():
        raise TypeError(f"{operation.name} made an answer of the wrong shape: {report.generate_report()}")
    return shape


def _structure(shape: Shape | None) -> StructureShape:
    if not isinstance(shape, StructureShape):
        raise TypeError("every operation that is offered has structures for input and output")
    return shape
