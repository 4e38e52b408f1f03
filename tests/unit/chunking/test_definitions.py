"""Which definitions are found, by qualified name, and on which rows with their leading comments."""

from __future__ import annotations

from itertools import accumulate

import pytest

from reposyncd.chunking.code import outline_code

EVERYTHING = -1
"""characters that fit: none, so every node is looked into."""


def definitions(language: str, text: str) -> dict[str, tuple[int, int]]:
    lines = text.splitlines(keepends=True)
    starts = list(accumulate(map(len, lines), initial=0))
    outline = outline_code(language, text.encode(), lines, starts, EVERYTHING)
    assert outline is not None
    names: list[str] = []
    for span in outline.spans:
        names.append(span.name if span.parent < 0 else f"{names[span.parent]}.{span.name}")
    return {name: (span.first + 1, span.last + 1) for name, span in zip(names, outline.spans, strict=True)}


@pytest.mark.parametrize(
    ("language", "text", "names"),
    [
        ("python", "@dec\nclass A(B):\n    async def f(self):\n        def g():\n            pass\n", "A A.f A.f.g"),
        ("javascript", "export class A {\n m() {\n }\n h = () => {\n }\n}\nfunction* g() {\n}\n", "A A.m A.h g"),
        ("javascript", "const h = () => {\n}\nA.p.z = function () {\n}\n", "h A.p.z"),
        ("javascript", "export default function k() {\n}\n", "k"),
        ("javascript", "module.exports = {\n p() {\n },\n q: function () {\n },\n}\n", "p q"),
        ("typescript", "export abstract class A<T> {\n m() {\n }\n}\ntype T = {\n a: 1\n}\n", "A A.m T"),
        ("typescript", "interface I {\n a(): void\n}\nnamespace N.M {\n function f() {\n }\n}\n", "I I.a N.M N.M.f"),
        ("tsx", "export function App() {\n return <p>x</p>\n}\n", "App"),
        ("go", "package p\nfunc (a *A[T]) M() {\n}\nfunc F() {\n}\ntype (\n B int\n C struct {\n }\n)\n", "A.M F B C"),
        ("rust", "mod m {\n impl<T> Tr<T> for Foo<T> {\n  fn f() {\n  }\n }\n}\n", "m m.Foo m.Foo.f"),
        ("rust", "unsafe impl Send for &dyn Foo {\n}\ntrait T {\n fn g();\n}\nmod elsewhere;\n", "Foo T T.g"),
        ("java", "@A\npublic class A {\n A() {\n }\n enum E {\n X;\n void f() {\n }\n }\n}\n", "A A.A A.E A.E.f"),
        ("c", "static int *f(int a)\n{\n}\nstruct s {\n int x;\n};\ntypedef struct {\n int x;\n} t;\n", "f s t"),
        ("cpp", "namespace a::b {\ntemplate<class T>\nclass C {\n ~C() {\n }\n};\n}\n", "a.b a.b.C a.b.C.~C"),
        ("cpp", "int a::C::m() {\n}\nbool C::operator<(int x) {\n}\n", "a.C.m C.operator<"),
        ("c-sharp", "namespace A.B {\n class C {\n void M() {\n }\n }\n}\n", "A.B A.B.C A.B.C.M"),
        ("ruby", "module M\n class A::B < C\n  def self.g\n  end\n end\nend\n", "M M.A.B M.A.B.g"),
        ("ruby", "class A\n def <=>(o)\n end\nend\n", "A A.<=>"),
        ("php", "<?php\nnamespace A\\B;\nclass C {\n function f() {\n }\n}\nfunction g() {\n}\n", "C C.f g"),
        ("bash", "f() {\n a\n}\nfunction g {\n b\n}\n", "f g"),
        ("kotlin", "class A {\n companion object {\n fun g() {\n }\n }\n}\n", "A A.Companion A.Companion.g"),
        ("scala", "object O {\n def f(x: Int) = {\n 1\n }\n trait T {\n def g: Int\n }\n}\n", "O O.f O.T O.T.g"),
        ("swift", "class A {\n init() {\n }\n}\nextension S {\n func g() {\n }\n}\n", "A A.init S S.g"),
        ("lua", "local function f()\nend\nfunction M:h()\nend\nM.x = function()\nend\n", "f M.h M.x"),
        ("sql", "CREATE TABLE s.t (\n a int\n);\nCREATE VIEW v AS\n SELECT 1;\n", "s.t v"),
        ("elixir", "defmodule A.B do\n  defp g(x) when x > 1 do\n  2\n end\nend\n", "A.B A.B.g"),
        ("haskell", "module A where\n\nf :: Int -> Int\nf 0 = 1\n\ndata D = D\n  { a :: Int }\n", "f D"),
        ("toml", "x = 1\n[a.b]\ny = 2\n[[c]]\nz = 3\n", "a.b c"),
        ("json", '{"a": {"b": 1}}\n', ""),
        ("css", "a {\n color: red;\n}\n", ""),
    ],
)  # fmt: skip
def test_definitions_have_qualified_names(language: str, text: str, names: str) -> None:
    assert set(definitions(language, text)) == set(names.split())


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "# what f does\n@one\n@two\ndef f():\n    pass\n"),
        ("rust", "/// what f does\n#[inline]\n// and why\nfn f() {\n}\n"),
        ("java", "/**\n * What it does.\n */\n@Old\nclass f {\n}\n"),
        ("typescript", "/** What it does. */\n// and more\nexport class f {\n}\n"),
        ("haskell", "f :: Int\n-- why\nf = 1\n"),
        ("elixir", '@doc "what"\n@spec f() :: 1\n# why\ndef f() do\n 1\nend\n'),
    ],
)
def test_comments_and_attributes_right_above_belong_to_the_definition(language: str, text: str) -> None:
    assert definitions(language, text)["f"] == (1, text.count("\n"))


def test_a_comment_above_a_blank_line_does_not() -> None:
    assert definitions("python", "# licence\n\ndef f():\n    pass\n") == {"f": (3, 4)}
