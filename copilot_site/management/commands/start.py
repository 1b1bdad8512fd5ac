"""`manage.py start`: everything in one process, with nothing else installed."""

import ipaddress
import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from copilot_site.checks import refuse_weak_settings
from copilot_site.hardening import leave_no_core
from copilot_site.terminal import Failure, GatewayCommand

EXIT_CANNOT_LISTEN = 4


class Command(GatewayCommand):
    help = "Serve the gateway: APIs, dashboard, background work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--port", "-p", type=port, default=4141, help="port to listen on (4141)")
        add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        add("--verbose", "-v", action="store_true", help="say more")
        add(
            "--account-type",
            "-a",
            choices=["individual", "business", "enterprise"],
            default="individual",
            help="plan of accounts that sign in, when GitHub does not say",
        )
        add("--manual", action="store_true", help="ask a person before each request")
        add("--rate-limit", "-r", type=seconds, help="seconds between requests")
        add("--wait", "-w", action="store_true", help="queue instead of refusing")
        add("--github-token", "-g", help="use this GitHub token")
        add("--claude-code", "-c", action="store_true", help="make a command for Claude Code")
        add("--show-token", action="store_true", help="print tokens (they are secrets)")
        add("--proxy-env", action="store_true", help="obey HTTP(S)_PROXY and NO_PROXY")
        add("--require-keys", action="store_true", help="require API keys on loopback too")
        add("--open", action="store_true", help="open the dashboard in a browser")

    def run(self, **options: Any) -> None:
        from copilot_site import solo

        leave_no_core()
        apply(options)
        refuse_weak_settings()
        from copilot_site.server import PortTaken, listen

        try:
            listener = listen(options["host"], options["port"])
        except PortTaken as error:
            raise Failure(
                f"Port {error.port} is taken by another program.",
                f"Choose another one: --port {error.port + 1}",
                EXIT_CANNOT_LISTEN,
            ) from error
        except OSError as error:
            raise Failure(
                f"Cannot listen on {options['host']}: {error.strerror or error}.",
                "Use an address of this machine: --host 127.0.0.1",
                EXIT_CANNOT_LISTEN,
            ) from error
        solo.run(listener, options)


def apply(options: dict[str, Any]) -> None:
    """Options become settings before anything reads them."""
    if options["rate_limit"] is not None:
        settings.GATEWAY_RATE_LIMIT_S = options["rate_limit"]
    for option, name in (
        ("wait", "GATEWAY_RATE_LIMIT_WAIT"),
        ("manual", "GATEWAY_MANUAL"),
        ("verbose", "GATEWAY_VERBOSE"),
        ("show_token", "GATEWAY_SHOW_TOKEN"),
        ("proxy_env", "PROXY_ENV"),
    ):
        if options[option]:
            setattr(settings, name, True)
    if options["proxy_env"]:
        os.environ["GATEWAY_PROXY_ENV"] = "true"
    if not is_loopback(options["host"]):
        settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, options["host"]]
    # A proxy on this machine makes every visitor a local one: who has one asks for keys.
    asked = (
        options["require_keys"] or settings.KEYS_DEMANDED or settings.TEAM_MODE or settings.HTTPS
    )
    settings.REQUIRE_KEYS = asked or not is_loopback(options["host"])


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError(text)
    return value


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 86400:
        raise ValueError(text)
    return value
