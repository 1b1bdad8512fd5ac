"""Logs: one line per event on stderr, secrets removed at the root before any handler sees them."""

import logging
import logging.config
import re
from typing import Any

import structlog

SECRET = re.compile(
    r"gh[opsur]_[A-Za-z0-9_]{4,}|github_pat_[A-Za-z0-9_]{4,}|cgwh?_[A-Za-z0-9_-]{8,}"
    r"|tid=[^\s\"']+|sk-[A-Za-z0-9_-]{8,}|(?i:bearer|token)\s+[A-Za-z0-9._~+/=;:-]{12,}"
    r"|(?<=[?&]key=)[^&\s\"']+|(?<=[?&]signin=)[^&\s\"']+|(?<=/join/)[A-Za-z0-9_-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)


def scrub(text: str) -> str:
    """`text` without anything that looks like a token, a key or a bearer."""
    return SECRET.sub("[secret]", text)


# What would begin another line, or move a terminal's cursor; of tracebacks only the lines are ours.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_OF_MANY_LINES = ("exception", "stack")


def in_one_line(text: str) -> str:
    """`text` with what controls a line or a terminal written out."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text.rstrip())


def _scrub_event(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {
        k: (scrub(v) if k in _OF_MANY_LINES else in_one_line(scrub(v))) if isinstance(v, str) else v
        for k, v in event.items()
    }


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.format_exc_info,
    _scrub_event,
]


def configure_logging(*, verbose: bool = False, json: bool = False) -> None:
    """Route structlog and the standard library through one scrubbing chain to stderr."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    level = "DEBUG" if verbose else "INFO"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": [*_SHARED],
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        _scrub_event,
                        renderer,
                    ],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": "WARNING"},
            "loggers": {
                **{n: {"level": level} for n in ("accounts", "usage", "proxy", "copilot_site")},
                # It warns that the in-memory broker has no host name, which is the point of it.
                "kombu": {"level": "ERROR"},
            },
        }
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
