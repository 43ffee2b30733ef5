"""OpenAPI 3.1, made from the same routes and models that serve and validate: it cannot say anything else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from broker import __version__
from broker.errors import (
    AuditUnavailable,
    BrokerError,
    InvalidRequest,
    InvalidToken,
    Locked,
    Overloaded,
    RateLimited,
)
from broker.web import parsing
from broker.web.problems import CONTENT_TYPE, Problem, status_of
from broker.web.routes import HTML, AnyRoute, Guarded, Nothing

_REFERENCE = "#/components/schemas/{model}"


def document(routes: Iterable[AnyRoute[Any, Any]]) -> Mapping[str, Any]:
    """Describe the routes."""
    routes = [route for route in routes if route.answer_type != HTML]
    models: dict[type[BaseModel], None] = {Problem: None}
    for route in routes:
        models |= dict.fromkeys(model for model in (route.body, route.answer) if model and model is not Nothing)
    references, definitions = models_json_schema(
        [(model, "serialization" if not _is_body(model, routes) else "validation") for model in models],
        ref_template=_REFERENCE,
    )
    schemas: dict[Any, Any] = {model: reference for (model, _), reference in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lightsail Credential Broker",
            "version": __version__,
            "description": "Short-lived SSH and RDP credentials for Amazon Lightsail, decided by policy and audited.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _is_body(model: type[BaseModel], routes: Iterable[AnyRoute[Any, Any]]) -> bool:
    return any(route.body is model for route in routes)


def _operation(route: AnyRoute[Any, Any], schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.query)],
        "responses": _responses(route, schemas),
        "security": [{"token": []}] if isinstance(route, Guarded) else [],
    }
    if route.body is not Nothing:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.body]}},
        }
        operation["parameters"].append({"name": "Idempotency-Key", "in": "header", "schema": parsing.KEY_SCHEMA})
    return operation


def _identifier(route: AnyRoute[Any, Any]) -> str:
    words = re.findall(r"[a-z]+", route.path.lower())
    return "_".join([route.method.lower(), *words])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", path)
    ]


def _query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    schema = query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema.get("properties", {}).items()
    ]


def _responses(route: AnyRoute[Any, Any], schemas: Mapping[Any, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {str(route.status): {"description": route.summary}}
    if route.answer:
        schema = schemas[route.answer] if route.answer_type == "application/json" else {"type": "string"}
        responses[str(route.status)]["content"] = {
            kind: {"schema": schema} for kind in (route.answer_type, *route.other_types)
        }
    for status, description in route.also.items():
        same = {} if status == HTTPStatus.NOT_MODIFIED else responses[str(route.status)]
        responses[str(status)] = {**same, "description": description}
    kinds: set[type[BrokerError]] = {InvalidRequest, BrokerError, *route.errors}
    if isinstance(route, Guarded):
        kinds |= {InvalidToken, RateLimited, Locked, AuditUnavailable, Overloaded}
    # The edge refuses a body that is too large, or that has a Content-Encoding.
    by_status: dict[int, set[str]] = {413: {InvalidRequest.code}, 415: {InvalidRequest.code}}
    for kind in kinds:
        by_status.setdefault(status_of(kind), set()).add(kind.code)
    for status, codes in sorted(by_status.items()):
        responses[str(int(status))] = {
            "description": "Refused with one of: " + ", ".join(sorted(codes)),
            "content": {CONTENT_TYPE: {"schema": schemas[Problem]}},
        }
    return responses
