"""Whether the one who answers is the service that was asked (RFC 9728, section 3.3)."""

from collections.abc import Iterator

import pytest

from broker.client.elsewhere import origin
from broker.client.errors import Unreachable, Untrusted
from broker.client.services import Service
from broker.client.workloads import GITHUB, workload_source
from tests.doubles.client import Answer, Authority, ServiceDouble

ROUTE = "GET /.well-known/oauth-protected-resource"


@pytest.fixture
def service() -> Iterator[ServiceDouble]:
    with ServiceDouble(None) as double:
        yield double


def metadata(resource: object) -> Answer:
    return Answer({"resource": resource, "issuers": [{"issuer": GITHUB, "audience": "a"}]})


def test_who_names_itself_by_the_address_that_was_asked_is_believed(service: ServiceDouble) -> None:
    host = service.url.removeprefix("http://")
    for resource in (service.url, f"{service.url}/", f"HTTP://{host}", f"{service.url}/prefix"):
        service.tell(ROUTE, metadata(resource))
        assert Service(service.url).metadata()["resource"] == resource


@pytest.mark.parametrize(
    "resource",
    [
        "https://broker.example.com",
        "http://127.0.0.1:1",
        "http://localhost:{port}",
        "https://127.0.0.1:{port}",
        "http://x@127.0.0.1:{port}",
        "http://127.0.0.1:{port}#x",
        "http://[",
        "\ud800",
        "",
        None,
        7,
        ["http://127.0.0.1:{port}"],
    ],
)
def test_who_names_itself_otherwise_may_be_somebody_else(resource: object, service: ServiceDouble) -> None:
    port = service.url.rpartition(":")[2]
    service.tell(ROUTE, metadata(resource.format(port=port) if isinstance(resource, str) else resource))
    with pytest.raises(Untrusted, match=r"no token was asked for.*check the address.*server\.public_urls") as caught:
        Service(service.url).metadata()
    assert service.url in str(caught.value)


def test_a_usual_port_is_as_good_as_none() -> None:
    assert origin("https://broker.test:443/x") == origin("HTTPS://Broker.test") == ("https", "broker.test", 443)
    assert origin("http://localhost:80") == origin("http://localhost") != origin("https://localhost:80")
    assert origin("http://broker.test") is origin("nonsense") is None


def test_what_is_no_broker_is_said_to_be_none(service: ServiceDouble) -> None:
    for answer in (Answer({"resource": service.url}), Answer({}, 404), Answer(content=b"<html>")):
        service.tell(ROUTE, answer)
        with pytest.raises(Unreachable, match="address of a broker"):
            Service(service.url).metadata()


def test_a_job_asks_for_no_token_on_the_word_of_somebody_else(service: ServiceDouble) -> None:
    service.tell(ROUTE, metadata("https://broker.example.com"))
    environment = {"ACTIONS_ID_TOKEN_REQUEST_URL": service.url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job"}
    source = workload_source(environment, Service(service.url).metadata)
    assert source is not None
    with pytest.raises(Untrusted):
        source.current()
    assert [seen.path for seen in service.seen] == ["/.well-known/oauth-protected-resource"]


def test_over_tls_the_scheme_counts_too(authority: Authority) -> None:
    with ServiceDouble(authority.server_context()) as secured:
        secured.tell(ROUTE, metadata(secured.url.replace("https:", "http:")))
        with pytest.raises(Untrusted, match="answers as http://"):
            Service(secured.url, ca_file=authority.ca_file).metadata()
