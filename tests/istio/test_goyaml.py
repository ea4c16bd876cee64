"""YAML as Go reads it. More is compared with istioctl in test_against_istioctl.py."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridmesh.istio import BootstrapError, goyaml

from . import cases


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        *[(p, True) for p in ("y", "Y", "yes", "on", "TRUE")],
        *[(p, False) for p in ("n", "No", "OFF", "false")],
        *[(p, None) for p in ("", "~", "null", "NULL")],
        *[(p, 15) for p in ("15", "+15", "0xF", "0o17", "017", "0b1111", "1_5", "0XF")],
        *[(p, 1.5) for p in ("1.5", "15e-1", "+1.5", "1_.5")],
        *[(p, p) for p in ("yEs", "tRue", "nUll", "12:30", "2024-01-01", "1.2.3", "0x", "_1", "1e", "-", "0o8", "é")],
        *[(p, p) for p in ("١٢", "1e999", "0xffffffffffffffffff", "9" * 5000)],
        (".5", 0.5),
        ("08", 8.0),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", -(2.0**63)),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("+9223372036854775808", 2.0**63),
    ],
)
def test_plain_scalars(plain: str, value: Any) -> None:
    assert (type(goyaml.resolve(plain)), goyaml.resolve(plain)) == (type(value), value)


@pytest.mark.parametrize(("plain", "value"), [(".inf", math.inf), ("-.INF", -math.inf), ("+.Inf", math.inf)])
def test_infinities_are_known_and_refused(plain: str, value: float) -> None:
    assert goyaml.resolve(plain) == value
    with pytest.raises(BootstrapError, match=f"here: holds {plain} in line 2".replace("+", r"\+")):
        goyaml.load(f"a:\n- {plain}", "here")


@pytest.mark.parametrize("plain", [".nan", ".NaN", ".NAN"])
def test_what_is_no_number_is_refused_too(plain: str) -> None:
    with pytest.raises(BootstrapError, match=f"here: holds {plain} in line 1, which is no number in JSON"):
        goyaml.load(f"a: {plain}", "here")
    assert goyaml.load(f"a: '{plain}'", "here") == {"a": plain}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 1\n---\nb: 2", {"a": 1}),
        ("{1: a, true: b, 0x10: c, 'x': d}", {"1": "a", "true": "b", "16": "c", "x": "d"}),
        ("a: 1\na: 2", {"a": 2}),
        ("a: 1\n<<: {a: 2, b: 2}\nb: 3", {"a": 2, "b": 3}),
        ("<<: [{a: 1}, {a: 2, b: 2}]", {"a": 1, "b": 2}),
        ("'<<': {a: 1}", {"<<": {"a": 1}}),
        ("x: &x [1]\nz: *x", {"x": [1], "z": [1]}),
        ("[!!str 5, !!float 5, !!int 0x1, !!bool y, !!null '', !foo 5, '5']", ["5", 5.0, 1, True, None, "5", "5"]),
    ],
)
def test_documents(text: str, data: Any) -> None:
    assert goyaml.load(text, "here") == data


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", r"here: is not YAML: .* in line 1, column 5"),
        ("a: 1\nb: c: d", r"here: is not YAML: .* in line 2, column 5"),
        ("a: *b", "here: is not YAML: found undefined alias"),
        ("a: &a [*a]", "here: is nested too deeply, or contains itself"),
        ("a: \x07", r"here: holds the character U\+0007"),
        ("a: !!int x", "here: tags 'x' in line 1 as int, which it is not"),
        ("a: !!float x", "here: tags 'x' in line 1 as float, which it is not"),
        ("a: !!bool 5", "here: tags '5' in line 1 as bool, which it is not"),
        ("<<: 5", "here: merges something other than a mapping in line 1"),
        ('"\\ud800"', "here: holds half of a surrogate pair in line 1"),
        ("{~: a}", "here: is a key in line 1, and neither text nor a whole number"),
        ("{1.10: a}", r"here = '1.10': is a key in line 1"),
        ("{[a]: b}", "here: is a key in line 1"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(BootstrapError, match=said):
        goyaml.load(text, "here")


scalars = st.one_of(
    st.text(cases.no_surrogates_or_nul), cases.quotable, cases.odd, st.integers(), st.booleans(), st.none()
)


@settings(derandomize=True, database=None, deadline=None)
@given(st.dictionaries(cases.value, st.one_of(scalars, st.lists(scalars)), max_size=4))
def test_what_is_written_is_read_alike_by_python_and_as_go_does(data: dict[str, Any]) -> None:
    data = {k: v for k, v in data.items() if not (isinstance(v, int) and abs(v) >= 2**63)}
    text = goyaml.dump(data)
    assert yaml.safe_load(text) == data
    assert goyaml.load(text, "here") == {
        k: [float(i) if isinstance(i, int) and not -(2**63) <= i < 2**64 else i for i in v]
        if isinstance(v, list)
        else v
        for k, v in data.items()
    }


def test_each_scalar_has_a_line_of_its_own() -> None:
    assert goyaml.dump({"b": "x " * 200, "a": "one\ntwo", "c": "y"}) == f"a: \"one\\ntwo\"\nb: '{'x ' * 200}'\nc: 'y'\n"
