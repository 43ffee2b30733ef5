"""What can go wrong on the visitor's side, each with one sentence for the person at the terminal.

ClientError
├── Misconfigured   the environment or an argument is wrong; nothing was sent
├── Untrusted       who answers may be somebody else: its certificate, or what it says of itself; no token was sent
├── Unreachable     no answer, or an answer that no broker gives; ProviderFault is one
├── NotReady        what is asked for is not there yet; HostKeysUnknown is one
├── NotLoggedIn     nobody is logged in here, or the login has ended
├── LoginRefused    the identity provider said no
└── BrokerProblem   the service's own refusal (RFC 9457)
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import alone would cost a command ten milliseconds
if TYPE_CHECKING:
    from broker.client.documents import Problem, StepDocument


class ClientError(Exception):
    """Base of all; its text is a sentence without any secret."""


class Misconfigured(ClientError):
    """The environment or an argument is wrong; nothing was sent."""


class Untrusted(ClientError):
    """Who answers may be somebody else: its certificate is not trusted, or it names itself otherwise."""


class Unreachable(ClientError):
    """No answer came, or one that no broker gives."""


class ProviderFault(Unreachable):
    """The identity provider answers nothing that can be used: whoever runs it has to know."""


class NotReady(ClientError):
    """What was asked for is not there yet; waiting may help."""


class HostKeysUnknown(NotReady):
    """AWS does not know yet by which keys the instance proves itself, so nobody could tell who answers there."""

    retry_after = 10
    detail = "AWS does not know the host keys of the instance yet"

    def __init__(self) -> None:
        super().__init__(f"{self.detail}: it learns them some minutes after the first start; nobody was connected to")


class NotLoggedIn(ClientError):
    """Nobody is logged in here, or the login has ended."""


class LoginRefused(ClientError):
    """The identity provider, or the person at it, said no. `code` is OAuth's where there is one."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class BrokerProblem(ClientError):
    """The service refused, in its own words.

    `code` is the stable one of the contract, or "" when something in between answered (a proxy).
    `next` says what to do now and `steps` says it to programs; `retry_after` is in seconds and None where waiting does
    not help.
    """

    def __init__(self, status: int, problem: Problem, retry_after: int | None = None) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail") or problem.get("title") or f"the service answered {status}")
        self.next = str(problem.get("next", ""))
        self.request_id = str(problem.get("request_id", ""))
        self.upstream_code = str(problem.get("upstream_code", ""))
        self.choices = [str(choice) for choice in problem.get("choices", [])]
        self.steps: list[StepDocument] = list(problem.get("steps", []))
        self.retry_after = retry_after
        super().__init__(self.detail)
