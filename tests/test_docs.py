"""The pages of `docs/`: whole, self-contained, small, and made by the commands that they name."""

import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.html"))
MAX_BYTES = 1_500_000
VOID = {"meta", "link", "img", "input", "br", "hr", "source", "col", "wbr"}


class Page(HTMLParser):
    """Checks that elements are closed in the order in which they are opened; collects attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def links(self) -> list[str]:
        """All that a browser would fetch or go to."""
        names = ("src", "href", "srcset", "poster", "action")
        return [attributes[name] for _, attributes in self.elements for name in names if name in attributes]


def page(name: str) -> Page:
    return Page((DOCS / name).read_text(encoding="utf-8"))


def commands() -> list[list[str]]:
    """What `make docs` runs, each as its words, without the folder of the programme."""
    [recipe] = re.findall(
        r"^docs:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    return [["minittt", *shlex.split(line)[1:]] for line in recipe.splitlines()]


def test_the_folder_is_a_small_static_site():
    assert PAGES == ["index.html", "reply.html", "voices.html"]
    assert (DOCS / ".nojekyll").is_file()
    assert sum(path.stat().st_size for path in DOCS.iterdir()) <= MAX_BYTES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed_and_fetches_nothing(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    found = page(name)
    assert text.startswith("<!doctype html>")
    assert len([tag for tag, _ in found.elements if tag in ("html", "head", "body", "title", "h1")]) == 5
    assert any(a.get("name") == "viewport" for tag, a in found.elements if tag == "meta")
    for link in found.links():
        assert link.startswith(("data:", "#")) or link in PAGES
    for fetched in re.findall(r"url\(([^)]*)\)|@import", text):
        assert fetched.strip("'\"").startswith("data:")


def test_each_page_has_a_title_of_its_own():
    titles = [
        re.search(r"<title>(.*)</title>", (DOCS / name).read_text(encoding="utf-8"))[1] for name in PAGES
    ]
    assert len(set(titles)) == len(PAGES)


def test_the_first_page_links_the_others_and_names_the_command():
    first = page("index.html")
    assert set(first.links()) == set(PAGES) - {"index.html"}
    assert "make docs" in first.text


def test_the_pages_name_the_commands_of_the_makefile():
    made = {command[command.index("--page") + 1]: command for command in commands()}
    assert sorted(made) == ["docs/reply.html", "docs/voices.html"]
    for path, command in made.items():
        assert shlex.join(command) in page(Path(path).name).text
        questions = [word for word in command if word.endswith(".wav")]
        assert questions
        assert all((ROOT / question).is_file() for question in questions)


def test_every_page_holds_its_questions_and_answers_as_sound():
    sounds = {name: [a for tag, a in page(name).elements if tag == "audio"] for name in PAGES}
    assert [len(sounds[name]) for name in PAGES] == [0, 4, 4]  # two of each; a question and three answers
