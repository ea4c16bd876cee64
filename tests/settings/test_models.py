"""That every field can be set, and put right, by what is said of it; and that the docs say it."""

import pytest
from pydantic.fields import FieldInfo

from hybridmesh.settings.reference import fields, reference
from tests.components.harness import PROJECT_ROOT

ALL = list(fields())


def test_all_fields_are_looked_at() -> None:
    paths = [path for path, _ in ALL]
    assert "workloads.<name>.machines.hosts.<name>.ssh.hostKey" in paths
    assert "workloads.<name>.ports[].targetPort" in paths
    assert len(paths) > 90


@pytest.mark.parametrize(("path", "field"), ALL, ids=[path for path, _ in ALL])
def test_every_field_says_meaning_consequence_fix_and_an_example(path: str, field: FieldInfo) -> None:
    del path
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    for text in (field.description, extra["wrong"]):
        assert isinstance(text, str)
        assert text.endswith(".")
    assert extra["fix"]
    assert field.examples
    assert field.examples[0] is not None


def test_the_docs_page_has_the_reference_as_it_is() -> None:
    page = (PROJECT_ROOT / "docs" / "settings.md").read_text()
    assert reference() in page, "run `python -m hybridmesh.settings.reference` and put its output into docs/settings.md"
    assert [path for path, _ in ALL if f"`{path}`" not in page] == []
