from importlib import import_module

import pytest

from studies import page

STUDIES = sorted(path.stem for path in page.FINDINGS.glob("*.json"))


def test_every_page_has_its_numbers():
    assert STUDIES
    assert sorted(path.stem for path in page.FINDINGS.glob("*.md")) == STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_tables_of_a_page_are_those_of_its_numbers(name):
    text = (page.FINDINGS / f"{name}.md").read_text(encoding="utf-8")
    tables = import_module(f"studies.{name}.tables").tables(page.read(name))
    assert page.with_tables(text, tables) == text
