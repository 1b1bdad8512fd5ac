"""The approvals page and API as people and programs use them, for the suites of approvals."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.conftest import Gateway


class Queue:
    """A signed-in person on the approvals page, without JavaScript."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    @property
    def page(self) -> str:
        return self.client.get("/dashboard/approvals/").text

    def ids(self) -> list[str]:
        return re.findall(r'data-approval="([0-9a-f]{24})"', self.page)

    def token(self) -> str:
        page = self.client.get("/dashboard/approvals/rules/new/").text
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found is not None, page[:500]
        return found[1]

    def first(self, seconds: float = 5) -> str:
        deadline = time.monotonic() + seconds
        while not (ids := self.ids()):
            assert time.monotonic() < deadline, "nothing waits on the page"
            time.sleep(0.02)
        return ids[0]

    def decide(self, decision: str, scope: str = "once", *, which: str = "") -> httpx.Response:
        return self.client.post(
            f"/dashboard/approvals/{which or self.first()}/",
            data={"csrfmiddlewaretoken": self.token(), "decision": decision, "scope": scope},
        )

    def make_rule(self, name: str, **conditions: Any) -> httpx.Response:
        """A rule by its form; takes effect in every process within a second or two."""
        form = {"name": name, "is_enabled": "on", **conditions}
        answer = self.client.post(
            "/dashboard/approvals/rules/new/",
            data={"csrfmiddlewaretoken": self.token(), **form},
        )
        assert answer.status_code == 200, re.findall(r'class="error".*', answer.text)
        return answer

    def delete_rules(self) -> None:
        page = self.client.get("/dashboard/approvals/rules/").text
        for rule in re.findall(r"/dashboard/approvals/rules/(\d+)/", page):
            self.client.post(
                f"/dashboard/approvals/rules/{rule}/delete/",
                data={"csrfmiddlewaretoken": self.token()},
            )


@contextmanager
def signed_in(gateway: Gateway) -> Iterator[Queue]:
    """The owner, by the link that the terminal shows; once for each gateway."""
    with gateway.client(follow_redirects=True) as client:
        assert client.get(gateway.sign_in_link).status_code == 200
        yield Queue(client)
