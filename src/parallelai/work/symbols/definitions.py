"""What a file defines, with qualified names, lines and signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from parallelai.work.symbols.grammars import Loaded, parse
from parallelai.work.symbols.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Node, Tree

MOST_TEXT = 300
"""Characters of a signature or a line of documentation: hostile names are long."""
MOST = 20_000
"""Definitions of one file."""
_MEMBERS = {"class", "interface", "module", "scope", "type"}
_SPACE = re.compile(r"\s+")
_MARKS = re.compile(r"^\s*(?:/\*+|//[/!]?|#+|\*(?!/))?\s*|\s*\*/\s*$")
_QUOTES = re.compile(r"^[A-Za-z]{0,2}(?:\"\"\"|'''|\"|')|(?:\"\"\"|'''|\"|')$")


class Definition(Struct, frozen=True):
    """Something that a file defines.

    Attributes:
        name: qualified within the file, such as `App.menu`.
        kind: `function`, `class`, `method`, `interface`, `type`, `constant`, `module`, `macro`, `declaration`.
        first, last: its lines, from 1, both inclusive; decorators belong to it.
        signature: what is before its body, on one line; of a constant its name.
        is_public: whether code elsewhere may use it, as far as the language tells.
        docline: the first line of its documentation, or nothing.
    """

    name: str
    kind: str
    first: int
    last: int
    signature: str
    is_public: bool
    docline: str = ""

    @property
    def bare(self) -> str:
        """The name without what it lies in."""
        return self.name.rpartition(".")[2]


class _Found(Struct):
    """A definition while its surroundings are not yet known."""

    kind: str
    node: Node
    outer: Node
    name: str
    owner: str


def definitions(path: str, text: str | bytes) -> tuple[Definition, ...]:
    """Give the definitions of a file in its order; none for an unknown language. Never raises on any text."""
    parsed = parse(path, text)
    return () if parsed is None else defined(*parsed)


def defined(loaded: Loaded, data: bytes, tree: Tree) -> tuple[Definition, ...]:
    """Give the definitions of a tree."""
    found, exported, hiding = _captured(loaded, tree)
    is_module = bool(exported) or any(each.outer is not each.node for each in found)
    made: list[Definition] = []
    around: list[tuple[int, str, str, bool]] = []  # end, qualified name, kind, is_public
    for each in found:
        while around and around[-1][0] <= each.outer.start_byte:
            around.pop()
        _, prefix, within, is_open = around[-1] if around else (0, "", "", True)
        name = ".".join(part for part in (prefix, each.owner, each.name) if part)
        kind = "method" if each.kind == "function" and within in _MEMBERS - {"module"} else each.kind
        if kind == "constant" and within in ("function", "method"):
            continue
        signature = _signature(kind, each, data)
        is_public = is_open and _is_public(
            loaded.language, each, signature, exported, is_module, bool(prefix)
        )
        is_public = is_public and not any(_hides(word, each.outer) for word in hiding)
        around.append((each.outer.end_byte, name, kind, (is_public and kind in _MEMBERS) or kind == "scope"))
        if kind != "scope":
            first, last = each.outer.start_point.row + 1, _last(each.outer)
            doc = _docline(loaded.language, each, data)
            made.append(Definition(name[:MOST_TEXT], kind, first, last, signature, is_public, doc))
    return tuple(made)


def _captured(loaded: Loaded, tree: Tree) -> tuple[list[_Found], set[str], list[Node]]:
    """Run the query: definitions from the outermost on, names that are exported, words that hide."""
    from tree_sitter import QueryCursor

    found: dict[tuple[int, int, str], _Found] = {}
    exported: set[str] = set()
    hiding: list[Node] = []
    for _, captures in QueryCursor(loaded.definitions).matches(tree.root_node):
        exported.update(_text(node) for node in captures.get("exported", ()))
        if any("exports" in _text(node) for node in captures.get("owner", ())):
            exported.update(_text(node) for node in captures["name"])
        hiding += captures.get("hides", ())
        kind = next((kind for kind in captures if kind not in _ASIDE), None)
        if kind is None or "name" not in captures or len(found) >= MOST:
            continue
        node = captures[kind][0]
        owner = _text(captures["owner"][0]) if "owner" in captures else ""
        for name in captures["name"]:
            each = _Found(kind, node, _outer(node, loaded.language), _text(name), _owner(owner))
            place = (node.start_byte, node.end_byte, each.name)
            if place not in found or found[place].kind == "constant":  # a function that is a value is both
                found[place] = each
    ordered = sorted(found.values(), key=lambda one: (one.outer.start_byte, -one.outer.end_byte))
    return ordered, exported, hiding


_NO_PART = {"decorator", "comment"}
_ASIDE = {"name", "owner", "exported", "hides", "_exports"}


def _owner(text: str) -> str:
    """What a function is assigned to, if it is a plain name; `exports` and `prototype` are no part of it."""
    parts = [part for part in text.split(".") if part not in ("module", "exports", "prototype", "this")]
    plain = ".".join(parts)
    return plain if len(plain) <= 80 and re.fullmatch(r"[\w$.]*", plain) else ""


def _outer(node: Node, language: Language) -> Node:
    """The definition with what is around it alone: not a group of several."""
    parent = node.parent
    while parent is not None and parent.type in language.wrappers:
        inside = [child for child in parent.named_children if child.type not in _NO_PART]
        if len(inside) != 1:
            break
        node, parent = parent, parent.parent
    return node


def _text(node: Node) -> str:
    raw = node.text or b""
    return raw[: 4 * MOST_TEXT].decode("utf-8", "replace")[:MOST_TEXT]


def _last(node: Node) -> int:
    """The last line of a node: one that ends at the start of a line does not reach into it."""
    end = node.end_point
    return max(end.row + (1 if end.column else 0), node.start_point.row + 1)


def _signature(kind: str, each: _Found, data: bytes) -> str:
    if kind == "constant":
        return each.name
    body = _body(each.node)
    end = body.start_byte if body is not None else each.node.end_byte
    before = body.prev_sibling if body is not None else None
    while before is not None and before.type == "comment":
        end, before = before.start_byte, before.prev_sibling
    raw = data[each.node.start_byte : min(end, each.node.start_byte + 4 * MOST_TEXT)]
    if body is None and kind not in ("declaration", "method"):
        raw = raw.split(b"\n", 1)[0]
    text = _SPACE.sub(" ", raw.decode("utf-8", "replace")).strip()
    return text.removesuffix("=>").rstrip(" {:;")[:MOST_TEXT]


def _body(node: Node) -> Node | None:
    """The body of a definition, also of a function that is a value in it."""
    for _ in range(4):
        body = node.child_by_field_name("body")
        if body is not None:
            return body
        inner = node.child_by_field_name("value") or node.child_by_field_name("right")
        if inner is None and node.type in ("lexical_declaration", "variable_declaration"):
            inner = node.named_children[0] if node.named_child_count else None
        if inner is None:
            return None
        node = inner
    return None


def _is_public(
    language: Language, each: _Found, signature: str, exported: set[str], is_module: bool, is_member: bool
) -> bool:
    name = each.name
    dunder = name.startswith("__") and name.endswith("__")
    words = set(re.findall(r"\w+", signature.partition("(")[0]))
    match language.publicity:
        case "capital":
            return name[:1].isupper() and (not each.owner or each.owner[:1].isupper())
        case "word":
            return each.kind == "scope" or bool(words & set(language.words))
        case "unless":
            return not words & set(language.words)
        case "export" if not is_member and (is_module or each.kind == "constant"):
            return name in exported or each.outer.type == "export_statement" or each.owner != ""
        case _:
            return (dunder or not name.startswith(("_", "#"))) and not words & set(language.words)


def _hides(word: Node, node: Node) -> bool:
    if node.type == "singleton_method":
        return False
    return word.parent is not None and word.parent == node.parent and word.start_byte < node.start_byte


def _docline(language: Language, each: _Found, data: bytes) -> str:
    if language.doc == "body":
        body = each.node.child_by_field_name("body")
        first = body.named_children[0] if body is not None and body.named_child_count else None
        if first is None or first.type != "expression_statement" or first.named_child_count != 1:
            return ""
        text = first.named_children[0]
        return _QUOTES.sub("", _first_line(_text(text))).strip() if text.type == "string" else ""
    top: Node | None = None
    for comment in _comments_above(each.outer):
        top = comment
    return "" if top is None else _first_line(_text(top))


def _comments_above(node: Node) -> Iterator[Node]:
    """The comments that end on the line above, upwards."""
    row, before = node.start_point.row, node.prev_sibling
    for _ in range(200):
        if before is None or "comment" not in before.type or _last(before) < row:
            return
        yield before
        row, before = before.start_point.row, before.prev_sibling


def _first_line(text: str) -> str:
    for line in text.splitlines():
        cleaned = _MARKS.sub("", line).strip()
        if cleaned and cleaned not in ('"""', "'''"):
            return cleaned
    return ""
