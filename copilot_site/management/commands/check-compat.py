# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py check-compat`: does a running gateway answer as the official SDKs demand?"""

from argparse import ArgumentParser
from typing import Any, Final

from copilot_site.compat.runner import Result, models_of, play_all
from copilot_site.compat.wire import Client, Mismatch, Unreachable
from copilot_site.terminal import FAILED, Failure, GatewayCommand, paint, say

DEFAULT_URL: Final = "http://localhost:4141"
COLOURS: Final = {"ok": "ok", "skipped": "warn", "failed": "bad"}


class Command(GatewayCommand):
    help = "Replay official-SDK scenarios against a running gateway; costs a few credits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", default=DEFAULT_URL, help=f"the gateway ({DEFAULT_URL})")
        parser.add_argument("--key", help="an API key, where the gateway requires one")

    def run(self, **options: Any) -> None:
        try:
            client = Client(options["url"], options["key"])
            models = models_of(client)
        except Unreachable as error:
            raise Failure(str(error), "Start the gateway, or name it with --url.") from None
        except Mismatch as wrong:
            raise Failure(
                f"The gateway does not say its models: {wrong}.",
                "Give a valid --key, and see that an account is signed in.",
            ) from None
        say("This sends about 60 short requests to the gateway's models: a few AI credits.")
        used = dict.fromkeys((models.chat, models.messages, models.responses, models.embeddings))
        say(f"Models: {', '.join(model for model in used if model)}")
        results = []
        for result in play_all(client, models):
            results.append(result)
            self.out(self._row(result))
        self._conclude(results)

    def _row(self, result: Result) -> str:
        word = paint(f"{result.outcome:<7}", COLOURS[result.outcome], self.stdout)
        row = f"{result.name:<52} {word} {result.ms:>6} ms"
        return f"{row}\n    {result.detail}" if result.detail else row

    def _conclude(self, results: list[Result]) -> None:
        failed = [result for result in results if result.outcome == "failed"]
        passed = sum(result.outcome == "ok" for result in results)
        skipped = len(results) - passed - len(failed)
        say(f"{passed} passed, {len(failed)} failed, {skipped} skipped.")
        if failed:
            raise SystemExit(FAILED)
