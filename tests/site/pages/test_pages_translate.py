"""The page that shows what a pasted request becomes."""

import json

from django.test import Client

PATH = "/dashboard/translate/"


def test_a_body_that_is_no_json_is_said_to_be_none(as_ben: Client) -> None:
    answer = as_ben.post(PATH, {"format": "messages", "model": "", "request": "{broken"})
    assert answer.status_code == 400
    assert "not valid JSON" in answer.content.decode()
    assert "{broken" in answer.content.decode()


def test_a_format_of_no_kind_is_refused(as_ben: Client) -> None:
    answer = as_ben.post(PATH, {"format": "latin", "model": "", "request": "{}"})
    assert answer.status_code == 400
    assert "format" in answer.content.decode()


def test_a_step_that_refuses_is_shown(as_ben: Client) -> None:
    body = json.dumps({"model": "m", "messages": []})
    answer = as_ben.post(PATH, {"format": "chat_completions", "model": "", "request": body})
    assert answer.status_code == 200
    shown = answer.content.decode()
    assert "messages: a non-empty list is required" in shown
    assert "refused" in shown


def test_what_is_pasted_is_never_markup(as_ben: Client) -> None:
    body = json.dumps({"model": "<script>alert(1)</script>", "messages": []})
    answer = as_ben.post(PATH, {"format": "chat_completions", "model": "", "request": body})
    assert "<script>alert(1)" not in answer.content.decode()


def test_strangers_do_not_see_the_page() -> None:
    answer = Client().get(PATH)
    assert answer.status_code == 302
