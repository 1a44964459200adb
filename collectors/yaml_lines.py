"""YAML that somebody wrote, read with the line of every key, within bounds.

The one place where such files are read: the site file, profiles and CSV mappings. Whatever the text is, it
becomes plain data or a ``ConfigError`` that names file, line and key. Aliases and merge keys are followed
by counting every value they stand for, so that a nest of them ends in an error and not in full memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from app.errors import ConfigError

MOST_VALUES = 1_000_000
"""Values of one file, each counted as often as aliases make it stand there."""

Where = tuple[str | int, ...]
"""Keys and positions from the root to a value."""

_MERGE = "tag:yaml.org,2002:merge"
_DEEPEST = 200


class YamlLines:
    """The mapping in a YAML text, and the line on which every key stands.

    Parameters
    ----------
    text : str
    name : str
        Stands in the messages as the file.
    expected : str
        What the mapping holds, for the message where it is none.
    most_values : int
        More are refused.

    Raises
    ------
    ConfigError
        If it is no YAML, no mapping, too large or too deep.
    """

    def __init__(self, text: str, name: str, expected: str, *, most_values: int = MOST_VALUES) -> None:
        self.name = name
        self._line: dict[Where, int] = {}
        self._left = self._most = most_values
        self._scalars = yaml.constructor.SafeConstructor()  # it keeps all that it ever made
        try:
            node = _composed(text)
            data = {} if node is None else self._value(node, ())
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            raise self._refusal(f"not valid YAML: {problem}", mark.line + 1 if mark else 1) from None
        except RecursionError:
            raise self._refusal("nested too deeply; write it flatter", 1) from None
        if not isinstance(data, dict):
            raise self._refusal(f"must be a mapping with {expected}", 1)
        self.data: dict[str, Any] = data
        del self._scalars

    def stands(self, path: Where) -> bool:
        """Whether the file has this key."""
        return path in self._line

    def error(self, path: Iterable[str | int], problem: str) -> ConfigError:
        """The problem at the deepest part of `path` that stands in the file."""
        path = known = tuple(path)
        while known and known not in self._line:
            known = known[:-1]
        return self._refusal(problem, self._line.get(known, 1), path)

    def _refusal(self, problem: str, line: int, path: Where = ()) -> ConfigError:
        return ConfigError(problem, file=self.name, line=line, key=dotted(path))

    def _value(self, node: yaml.Node, path: Where) -> Any:
        if not self._left:
            raise self._refusal(f"more than {self._most} values, aliases counted; split it", 1)
        self._left -= 1
        self._line[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*path, n)) for n, child in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except (ValueError, OverflowError) as error:
            problem = f"{node.value[:50]!r} cannot be read: {error}; quote it if it is text"
            raise self._refusal(problem, node.start_mark.line + 1, path) from None

    def _mapping(self, node: yaml.MappingNode, path: Where) -> dict[str, Any]:
        merged = self._merged(node, path)
        own: dict[str, Any] = {}
        for key_node, child in node.value:
            if key_node.tag == _MERGE:
                continue
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._refusal("a key is not plain text; quote it", line, path)
            here = (*path, key_node.value)
            if key_node.value in own:
                raise self._refusal("stands twice; keep one", line, here)
            own[key_node.value] = self._value(child, here)
            self._line[here] = line
        return merged | own

    def _merged(self, node: yaml.MappingNode, path: Where) -> dict[str, Any]:
        """What the merge keys (``<<``) of a mapping bring; of several, the first one counts."""
        found: dict[str, Any] = {}
        line = self._line[path]
        for key_node, child in node.value:
            if key_node.tag != _MERGE:
                continue
            sources = child.value if isinstance(child, yaml.SequenceNode) else [child]
            for source in sources:
                data = self._value(source, path)
                if not isinstance(data, dict):
                    raise self._refusal("<< takes a mapping", source.start_mark.line + 1, path)
                found = data | found
        self._line[path] = line
        return found


def _composed(text: str) -> yaml.Node | None:
    """The root of a text: by libyaml, many times as fast, where that cannot exhaust the stack.

    What libyaml refuses is read once more in Python, which says better why.
    """
    if yaml.__with_libyaml__:
        try:
            if _depth(text) <= _DEEPEST:
                fast: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
                return fast
        except yaml.YAMLError:
            pass
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return node


def _depth(text: str) -> int:
    """How deep the values of a text are nested; libyaml would go as deep on the stack."""
    depth = deepest = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def dotted(path: Where) -> str:
    """A path as messages show it: ``sites[0].meters[2].id``."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
