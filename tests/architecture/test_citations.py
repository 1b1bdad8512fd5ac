"""What files of the project cite is there, and what they must not name is not."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A path below docs/ that is a file of ours, its heading, and further headings of the same file.
CITATION = re.compile(
    r"(?<![\w/.-])docs/((?:[a-z0-9_-]+/)?[a-z0-9_-]+\.md)((?:#[a-z0-9_-]+)?(?:(?:,| and) #[a-z0-9_-]+)*)"
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# What other projects wrote: clients' requests as they came, and whatever a tool has locked.
FOREIGN = ("tests/clients/recorded/", "tests/formats/golden/")
# Taken apart, so that this file does not hold what it looks for.
FORBIDDEN = (
    "/wo" + "rk/",
    "../sha" + "red",
    "pypi" + ".org",
    "files.python" + "hosted.org",
    "registry.npm" + "js.org",
    "registry.yarn" + "pkg.com",
    "static.crates" + ".io",
    "proxy.gol" + "ang.org",
)


def git(*arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", *arguments, "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("needs a git checkout")
    return [name for name in done.stdout.split("\0") if name]


@cache
def files() -> dict[str, str]:
    """Every text file of the project by its name: what is tracked, and what is about to be."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard")
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        path = ROOT / name
        if is_installed(name) or not path.is_file():
            continue
        try:
            found[name] = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
    assert len(found) > 300
    return found


def is_installed(name: str) -> bool:
    return "node_modules" in name.split("/")


@cache
def anchors(page: str) -> frozenset[str]:
    """The anchors that GitHub makes of headings, and those that a page sets itself."""
    text = FENCE.sub("", (ROOT / page).read_text())
    made = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        made.add(re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-"))
    return frozenset(made)


def citations() -> Iterator[tuple[str, str, list[str]]]:
    """Who cites, which page, which anchors."""
    for name, text in files().items():
        if name.startswith(FOREIGN) and not name.endswith("README.md"):
            continue
        for page, tail in CITATION.findall(text):
            yield name, f"docs/{page}", re.findall(r"#([a-z0-9_-]+)", tail)


def test_no_installed_package_is_tracked() -> None:
    assert [name for name in git("ls-files", "--cached") if is_installed(name)][:5] == []


def test_every_cited_page_and_heading_is_there() -> None:
    missing = set()
    cited = list(citations())
    assert len(cited) > 100
    for name, page, wanted in cited:
        if not (ROOT / page).is_file():
            missing.add(f"{name}: {page}")
            continue
        missing |= {f"{name}: {page}#{a}" for a in wanted if a not in anchors(page)}
    assert sorted(missing) == []


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = set()
    for name, text in files().items():
        if not name.endswith(".md") or name.startswith(FOREIGN):
            continue
        for target, anchor in LINK.findall(FENCE.sub("", text)):
            page = (ROOT / name).parent / target if target else ROOT / name
            if not page.exists():
                broken.add(f"{name}: {target}")
            elif anchor and anchor not in anchors(page.resolve().relative_to(ROOT).as_posix()):
                broken.add(f"{name}: {target}#{anchor}")
    assert sorted(broken) == []


def test_every_test_that_a_page_names_exists() -> None:
    there = {
        test
        for name, text in files().items()
        if name.startswith("tests/")
        for test in re.findall(r"def (test_\w+)", text)
    }
    named = {
        test
        for name, text in files().items()
        if name.startswith("docs/")
        for test in re.findall(r"`(test_\w+)`", text)
    }
    assert len(named) > 50
    assert sorted(named - there) == []


def test_every_variable_of_the_settings_is_explained() -> None:
    source = files()["copilot_site/settings.py"] + files()["copilot_site/env.py"]
    read = set(re.findall(r'(?:env\.\w+|positive|url|secret)\(\s*"([A-Z_]+)"', source))
    assert len(read) > 25
    page = files()["docs/operations.md"]
    assert sorted(name for name in read if f"| `{name}` |" not in page) == []


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_file_names_a_developers_machine_or_a_registry(word: str) -> None:
    assert [name for name, text in files().items() if word in text] == []
