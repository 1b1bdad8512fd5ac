"""docs/formats.md says what the formats do today."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from proxy.formats import FORMATS, document
from proxy.formats.crossing_answers import ANSWERS
from proxy.formats.crossings import FEATURES

ROOT = Path(__file__).parents[2]


def test_the_document_is_fresh() -> None:
    written = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert written == document.text(), "run `python manage.py formats-doc`"


def test_every_feature_and_every_loss_is_in_it() -> None:
    text = document.text()
    for feature in (*FEATURES, *ANSWERS):
        assert f"\n| {feature.name} |" in text
    for module in FORMATS.values():
        for loss in module.LOSSES:
            assert loss.note in text
    assert "LOST" not in text


def test_the_command_says_whether_it_is_stale(
    monkeypatch: pytest.MonkeyPatch, settings: object, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "BASE_DIR", tmp_path)
    (tmp_path / "docs").mkdir()
    with pytest.raises(CommandError, match="stale"):
        call_command("formats-doc", "--check")

    call_command("formats-doc", stdout=StringIO())
    said = StringIO()
    call_command("formats-doc", "--check", stdout=said)
    assert "up to date" in said.getvalue()
