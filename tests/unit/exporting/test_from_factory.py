"""Modules that a function of the user's own makes: found, called, and given examples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeml.core.factories import looks_like_factory
from edgeml.errors import InputError
from edgeml.exporting.from_factory import open_factory

CODE = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
    def forward(self, first, second=None):
        answer = self.linear(first)
        return answer if second is None else answer + second

class Starred(nn.Module):
    def forward(self, *rows):
        return rows[0]

class Namespace:
    @staticmethod
    def inner():
        return Two(), {"first": torch.ones(3, 4)}

instance = Two()
number = 3
def plain(): return Two()
def one(): return Two(), torch.ones(1, 4)
def pair(): return Two(), (torch.ones(2, 4), torch.ones(2, 3))
def starred(): return Starred(), torch.ones(1, 4)
def wrong(): return "a string"
def raises(): raise RuntimeError("no weights\\nhere")
def leaves(): raise SystemExit(3)
def lazily():
    import edgeml_test_beside
    return Two(), edgeml_test_beside.EXAMPLE
def unknown(): return Two(), {"third": torch.ones(1, 4)}
def optional_only(): return Two(), {"second": torch.ones(1, 4)}
def many(): return Two(), (torch.ones(1, 4),) * 3
def nested(): return Two(), {"first": [torch.ones(1, 4)]}
def bare(): return Two(), 7
def scalar(): return Two(), torch.tensor(1.0)
def uneven(): return Two(), (torch.ones(2, 4), torch.ones(1, 3))
"""
MODULE = "edgeml_test_factories"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the user's code in it."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    (tmp_path / "edgeml_test_beside.py").write_text("import torch\nEXAMPLE = torch.ones(1, 4)\n")
    (tmp_path / "edgeml_test_broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "edgeml_test_syntax.py").write_text("def (:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("edgeml_test_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("factory", "shapes"),
    [
        ("one", {"first": (1, 4)}),
        ("pair", {"first": (2, 4), "second": (2, 3)}),
        ("lazily", {"first": (1, 4)}),
        ("Namespace.inner", {"first": (3, 4)}),
    ],
)
def test_examples_get_the_names_of_the_parameters(
    factory: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    before = list(sys.path)
    made = open_factory(f"{MODULE}:{factory}", None)
    assert {name: tuple(row.shape) for name, row in made.examples.items()} == shapes
    assert not made.module.training
    assert sys.path == before


def test_data_gives_the_first_two_rows_where_the_factory_gives_none() -> None:
    data = {"labels": np.zeros(9), "first": np.arange(36.0).reshape(9, 4)}
    made = open_factory(f"{MODULE}:plain", data)
    assert list(made.examples) == ["first"]
    assert made.examples["first"].dtype == torch.float32
    np.testing.assert_array_equal(made.examples["first"].numpy(), data["first"][:2])
    made.examples["first"].zero_()
    assert data["first"][0, 1] == 1.0


REFUSED = {
    "nothing_of_this_name:f": "there is no module 'nothing_of_this_name'",
    f"{MODULE}.sub:f": f"there is no module '{MODULE}.sub'",
    "edgeml_test_broken:f": "'edgeml_test_broken' cannot be imported .*nothing_of_this_name",
    "edgeml_test_syntax:f": "'edgeml_test_syntax' cannot be imported .SyntaxError",
    f"{MODULE}:absent": "has no 'absent'",
    f"{MODULE}:number": "'number' is a int; a function",
    f"{MODULE}:instance": "'instance' is a Two; a function",
    f"{MODULE}:Two.forward": "the factory raised TypeError",
    f"{MODULE}:plain": "the factory gives no examples and there is no data",
    f"{MODULE}:wrong": "the factory returned a str",
    f"{MODULE}:raises": "the factory raised RuntimeError: no weights here",
    f"{MODULE}:leaves": "the factory raised SystemExit: 3",
    f"{MODULE}:starred": "forward has no named parameter",
    f"{MODULE}:unknown": "examples are for third; forward takes first, second",
    f"{MODULE}:optional_only": "examples are for second; forward takes first, second",
    f"{MODULE}:many": "gives 3 examples; forward has 2",
    f"{MODULE}:nested": "the example of 'first' is a list",
    f"{MODULE}:bare": "the factory's examples are a int",
    f"{MODULE}:scalar": r"the examples have the shapes first \(\)",
    f"{MODULE}:uneven": r"first \(2, 4\), second \(1, 3\)",
    "models/tiny.onnx": "this names no factory",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_factory_of_a_module_is_refused_in_one_line(name: str) -> None:
    before = list(sys.path)
    with pytest.raises(InputError, match=REFUSED[name]) as caught:
        open_factory(name, None)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{name}: ")
    assert sys.path == before


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"x": np.ones((2, 4))}, "the data has the arrays x; forward takes first, second"),
        ({"second": np.ones((2, 4))}, "the data has the arrays second"),
        ({"first": np.array(["a", "b"])}, "the array 'first' is <U1"),
        ({"first": np.ones((0, 4))}, r"shapes first \(0, 4\)"),
    ],
)
def test_data_that_does_not_fit_is_refused(data: dict[str, np.ndarray], found: str) -> None:
    with pytest.raises(InputError, match=found):
        open_factory(f"{MODULE}:plain", data)


@pytest.mark.parametrize("name", ["a:b", "a.b.c:d", "a_1:B.c"])
def test_names_of_factories(name: str) -> None:
    assert looks_like_factory(name)


@pytest.mark.parametrize("name", ["a", "a/b:c", "a:", ":b", "a:b:c", "C:/x", "a.onnx", Path("a:b")])
def test_names_of_other_things(name: str | Path) -> None:
    assert not looks_like_factory(name)
