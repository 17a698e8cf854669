"""Finds the mutants of a CUDA kernel's source, by rules over its text.

A mutant is one barrier, mask or bound taken away. All of a file's mutants are
compiled at once: each is switched on by its number in `descant_mutant`, and
with 0 there the code is as written. Rules:

  barrier   __syncthreads() or __syncwarp() does nothing
  if        a condition that leaves (return, continue, break) never holds; any
            other always does
  term      an operand of && or || is dropped
  compare   < is <=, > is >=, and the other way round; but in loops to a
            constant, which are no bounds
  clamp     min or max is the one of its two sides, or the other
  load      the predicate of a Load16If always holds
  ternary   cond ? value : constant is the value always (two constants: the
            first)
  bool      a bool that is declared with an expression is true

What the compiler evaluates (constexpr, static_assert) is left alone. The
source is expected in clang-format's spacing: `a < b` compares, `A<b>` doesn't.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator

Span = tuple[int, int]

_OTHER_WAY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_BLANKED = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*"
    r"|\bstatic_assert\([^;]*;"
    r"|\bif constexpr \([^{]*\{"
    r"|\bconstexpr [^;{(]*[;{(]",
    re.DOTALL | re.MULTILINE,
)
_CONSTANT = re.compile(
    r"(?:\b(?:\w+::)*k[A-Z]\w*|\bnullptr\b|\bfalse\b|\btrue\b"
    r"|\b(?:0x)?\d[\w.]*|[\s*/+()-])+"
)


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str  # its name
    number: int  # in the file, from 1 on
    line: int
    text: str  # of the line
    rule: str  # and what it is about
    span: Span
    wrap: Callable[[str, str], str]  # (is it on?, the code): the mutated code

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.rule}"


class Source:
    """A file's text, and the same text without what the rules don't read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.code = _BLANKED.sub(
            lambda match: re.sub(r"[^\n]", " ", match[0][:-1])
            + (match[0][-1] if match[0][-1] in ";{(" else " "),
            text,
        )

    def of(self, span: Span) -> str:
        return " ".join(self.text[span[0] : span[1]].split())

    def trim(self, begin: int, end: int) -> Span:
        part = self.code[begin:end]
        begin += len(part) - len(part.lstrip())
        return begin, begin + len(part.strip())

    def closing(self, opening: int) -> int:
        """Of the bracket at `opening`."""
        depth = 0
        for i in range(opening, len(self.code)):
            depth += (self.code[i] in "([{") - (self.code[i] in ")]}")
            if depth == 0:
                return i
        raise ValueError(f"a bracket that is not closed: {self.of((opening, -1))}")

    def _ends(self, i: int, operators: str) -> bool:
        """Whether an operand ends at `i`, outside of brackets."""
        code, char = self.code, self.code[i]
        if char == ":":
            return ":" not in (code[i - 1], code[i + 1])
        if char == "=":
            return code[i - 1] not in "=!<>" and code[i + 1] != "="
        if char in "&|":
            pair = char * 2 in (code[i - 1 : i + 1], code[i : i + 2])
            return pair and char in operators
        return char in ",;?" or code[i - 6 : i + 1] == "return "

    def left_of(self, at: int, operators: str = "") -> Span:
        """What stands left of `at`, up to `operators`, of "&|" (&&, ||)."""
        depth, i = 0, at - 1
        while True:
            if self.code[i] in ")]}":
                depth += 1
            elif self.code[i] in "([{":
                if depth == 0:
                    break
                depth -= 1
            elif depth == 0 and self._ends(i, operators):
                break
            i -= 1
        return self.trim(i + 1, at)

    def right_of(self, at: int, operators: str = "", ends: str = ",;?:") -> Span:
        depth, i = 0, at
        while True:
            if self.code[i] in "([{":
                depth += 1
            elif self.code[i] in ")]}":
                if depth == 0:
                    break
                depth -= 1
            elif depth == 0 and self._ends(i, operators):
                if self.code[i] not in ",;?:" or self.code[i] in ends:
                    break
            i += 1
        return self.trim(at, i)


def is_constant(text: str) -> bool:
    return _CONSTANT.fullmatch(text) is not None


def _always(on: str, code: str) -> str:
    return f"({on} || ({code}))"


def _never(on: str, code: str) -> str:
    return f"(!{on} && ({code}))"


def _without(on: str, code: str) -> str:
    return f"if (!{on}) {code}"


def _instead(other: str) -> Callable[[str, str], str]:
    return lambda on, code: f"({on} ? ({other}) : ({code}))"


Found = tuple[str, Span, Callable[[str, str], str]]


def _barriers(source: Source) -> Iterator[Found]:
    for match in re.finditer(r"\b__sync(?:threads|warp)\([^;]*;", source.code):
        yield "barrier", match.span(), _without


def _leaves(source: Source, after: int) -> bool:
    """Whether the statement behind a condition's bracket ends by leaving."""
    body = after + 1 + len(source.code[after + 1 :]) - len(
        source.code[after + 1 :].lstrip()
    )
    leaving = r"(?:return\b[^;]*|continue|break);"
    if source.code[body] != "{":
        return re.match(leaving, source.code[body:]) is not None
    block = source.code[body + 1 : source.closing(body)]
    return re.search(rf"(?:^|[;{{}}])\s*{leaving}\s*$", block) is not None


def _conditions(source: Source) -> Iterator[Found]:
    for match in re.finditer(r"\bif \(", source.code):
        end = source.closing(match.end() - 1)
        leaves = _leaves(source, end)
        span = source.trim(match.end(), end)
        yield f"if {source.of(span)}", span, _never if leaves else _always


def _terms(source: Source) -> Iterator[Found]:
    found: dict[Span, Found] = {}
    for match in re.finditer(r"\s(&&|\|\|)\s", source.code):
        # && binds closer: its operands end at both.
        stops, wrap = ("&|", _always) if match[1] == "&&" else ("|", _never)
        for span in (
            source.left_of(match.start(1), stops),
            source.right_of(match.end(1), stops),
        ):
            found[span] = f"term {source.of(span)}", span, wrap
    yield from found.values()


def _loop_conditions(source: Source) -> list[Span]:
    spans = []
    for match in re.finditer(r"\b(for|while) \(", source.code):
        begin, end = match.end(), source.closing(match.end() - 1)
        if match[1] == "for":
            begin = source.code.index(";", begin) + 1
            end = source.code.index(";", begin)
        spans.append((begin, end))
    return spans


def _comparisons(source: Source) -> Iterator[Found]:
    loops = _loop_conditions(source)
    for match in re.finditer(r"(?<=\s)(<=|>=|<|>)(?=\s)", source.code):
        left = source.left_of(match.start(), "&|")
        right = source.right_of(match.end(), "&|")
        is_loop = any(begin <= match.start() < end for begin, end in loops)
        if is_loop and is_constant(source.text[slice(*right)]):
            continue
        span = left[0], right[1]
        other = (
            source.text[slice(*left)]
            + f" {_OTHER_WAY[match[1]]} "
            + source.text[slice(*right)]
        )
        yield f"compare {source.of(span)}", span, _instead(other)


def _clamps(source: Source) -> Iterator[Found]:
    pattern = r"\b(?:std::)?f?(?:min|max)f?(?:<\w+>)?\("
    for match in re.finditer(pattern, source.code):
        end = source.closing(match.end() - 1)
        first = source.right_of(match.end())
        second = source.trim(first[1] + 1, end)
        for span in first, second:
            rule = f"clamp {source.of((match.start(), end + 1))}: {source.of(span)}"
            other = source.text[slice(*span)]
            yield rule, (match.start(), end + 1), _instead(other)


def _loads(source: Source) -> Iterator[Found]:
    for match in re.finditer(r"\bLoad16If\((?!bool )", source.code):
        span = source.right_of(match.end())
        yield f"load {source.of(span)}", span, _always


def _ternaries(source: Source) -> Iterator[Found]:
    for match in re.finditer(r"\?", source.code):
        condition = source.left_of(match.start())
        depth, i = 1, match.end()
        while depth > 0:
            i += 1
            if source.code[i] in "([{":
                i = source.closing(i)
            elif source.code[i] == "?":
                depth += 1
            elif source.code[i] == ":":
                depth -= ":" not in (source.code[i - 1], source.code[i + 1])
        first = source.text[slice(*source.trim(match.end(), i))]
        second = source.text[slice(*source.right_of(i + 1, ends=",;"))]
        rule = f"ternary {source.of(condition)}"
        if is_constant(second):
            yield rule, condition, _always
        elif is_constant(first):
            yield rule, condition, _never


def _bools(source: Source) -> Iterator[Found]:
    for match in re.finditer(r"\bbool \w+ = ", source.code):
        span = source.right_of(match.end())
        if not is_constant(source.of(span)):
            yield f"bool {source.of(span)}", span, _always


_RULES = (
    _barriers,
    _conditions,
    _terms,
    _comparisons,
    _clamps,
    _loads,
    _ternaries,
    _bools,
)


def find(file: str, text: str) -> list[Mutant]:
    source = Source(text)
    found = [each for rule in _RULES for each in rule(source)]
    found.sort(key=lambda each: each[1])
    lines = text.split("\n")
    mutants = []
    for number, (rule, span, wrap) in enumerate(found, 1):
        line = text.count("\n", 0, span[0])
        mutants.append(
            Mutant(file, number, line + 1, lines[line].strip(), rule, span, wrap)
        )
    return mutants


def with_all(text: str, mutants: list[Mutant], first_number: int) -> str:
    """The text with each mutant m where descant_mutant is first_number +
    m.number."""
    result, at = _wrapped(
        text,
        sorted(mutants, key=lambda m: (m.span[0], -m.span[1])),
        (0, len(text)),
        first_number,
    )
    assert at == len(mutants)
    return result


def _wrapped(
    text: str, mutants: list[Mutant], span: Span, first_number: int
) -> tuple[str, int]:
    """The text of `span`, and how many mutants, from the front, it has."""
    parts, position, at = [], span[0], 0
    while at < len(mutants) and mutants[at].span[0] < span[1]:
        outer = mutants[at]
        assert outer.span[1] <= span[1], f"{outer} crosses another mutant"
        same = 1
        while at + same < len(mutants) and mutants[at + same].span == outer.span:
            same += 1
        code, inner = _wrapped(text, mutants[at + same :], outer.span, first_number)
        for mutant in mutants[at : at + same]:
            on = f"(descant_mutant == {first_number + mutant.number})"
            code = mutant.wrap(on, code)
        parts += [text[position : outer.span[0]], code]
        position = outer.span[1]
        at += same + inner
    return "".join(parts) + text[position : span[1]], at
