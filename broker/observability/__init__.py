"""What operators see: log lines, numbers for Prometheus, and whether the event loop turns."""

from broker.observability.logs import (
    catch_what_no_task_catches,
    catch_what_nobody_catches,
    configure_logging,
    lines_lost,
)
from broker.observability.metrics import Metrics
from broker.observability.requests import AnsweredRequest, RequestObserver
from broker.observability.watchdog import Watchdog

__all__ = [
    "AnsweredRequest",
    "Metrics",
    "RequestObserver",
    "Watchdog",
    "catch_what_no_task_catches",
    "catch_what_nobody_catches",
    "configure_logging",
    "lines_lost",
]
