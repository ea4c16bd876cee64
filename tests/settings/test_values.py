"""That random configurations leave no kind of text out."""

import typing

from hybridmesh.settings.models import base
from tests.settings.values import TEXTS


def test_every_kind_of_text_has_random_values() -> None:
    kinds = {name: kind for name, kind in vars(base).items() if typing.get_origin(kind) is typing.Annotated}
    texts = {repr(kind): name for name, kind in kinds.items() if typing.get_args(kind)[0] is str}
    assert texts
    missing = {name for shown, name in texts.items() if shown not in {repr(kind) for kind in TEXTS}}
    assert missing == set(), "add them to TEXTS in tests/settings/values.py"
