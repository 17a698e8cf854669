#!/usr/bin/env python3
"""Golden data of runtime/tokenizer/jinja, made by jinja2 in Transformers' own
environment: tests/golden/data/jinja_expressions.json (small templates for each
construct) and chat_templates.json (whole chat templates, whole conversations).

Run with the environment of setup_oracle.sh. The clock stands still."""

import json
import pathlib
import sys

import jinja2
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import chat_conversations  # noqa: E402
import jinja_expressions  # noqa: E402

# Models' own templates as llama.cpp collects them: not kept in the repository.
OUTSIDE = HERE.parents[1] / ".deps/oracle-llama.cpp/models/templates"
LEFT_OUT = {
    # Written for llama.cpp: jinja2 has no from_json, and fails once it gets
    # there. Refused when it is loaded.
    "deepseek-ai-DeepSeek-V3.2", "deepseek-ai-DeepSeek-V4",
    "deepseek-ai-DeepSeek-V4-Flash-0731",
    # Joins a call's arguments as text: fails here, where they are an object.
    # A template that can only print text gets text from the server.
    "meetkai-functionary-medium-v3.2",
}


class StillClock(chat_template_utils.datetime):
    """2026-11-23 12:34:56, a Monday."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 23, 12, 34, 56)


chat_template_utils.datetime = StillClock


def render(text, variables):
    """[expected] or [None, kind, message]."""
    try:
        template = chat_template_utils._compile_jinja_template(text)
    except (jinja2.TemplateSyntaxError, SyntaxError) as error:
        return [None, "syntax", str(error)]
    try:
        return [template.render(**variables)]
    except Exception as error:  # whatever Python raises is an error of ours
        raised = type(error) is jinja2.exceptions.TemplateError
        return [None, "raised" if raised else "failed", str(error)]


def expressions():
    cases = []
    variables = jinja_expressions.VARIABLES
    for line in jinja_expressions.EXPRESSIONS.replace("\\\nb", "\\\0b").split("\n"):
        line = line.replace("\0", "\n")
        cases.append("{{ " + line + " }}")
        # And each part of the line alone: printed, and as what is tested.
        try:
            parts = split_tuple(line)
        except ValueError:
            parts = []
        for part in parts if len(parts) > 1 else []:
            cases.append("{{ " + part + " }}")
            cases.append("{{ (" + part + ") | string | length }}")
    cases += jinja_expressions.STATEMENTS
    cases += jinja_expressions.ERRORS
    cases += jinja_expressions.SYNTAX_ERRORS
    cases = list(dict.fromkeys(cases))
    return {"variables": variables,
            "cases": [[case] + render(case, variables) for case in cases]}


def split_tuple(line):
    """The parts of `a, b, c`, brackets and quotes respected."""
    parts, depth, quote, start, i = [], 0, None, 0, 0
    while i < len(line):
        c = line[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = None
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(line[start:i].strip())
            start = i + 1
        i += 1
    if depth or quote:
        raise ValueError(line)
    parts.append(line[start:].strip())
    return [part for part in parts if part]


def write(name, data):
    path = HERE / "data" / name
    path.write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n")
    print(path.name, path.stat().st_size, "bytes")


def outside():
    golden = chat_conversations.golden({
        path.stem: (path.read_text(), "<s>", "</s>")
        for path in sorted(OUTSIDE.glob("*.jinja"))
        if path.stem not in LEFT_OUT})
    path = OUTSIDE.parent / "chat_templates.json"
    path.write_text(json.dumps(golden, ensure_ascii=False))
    print(path, len(golden["families"]), "templates")


def main():
    write("jinja_expressions.json", expressions())
    write("chat_templates.json", chat_conversations.golden())
    if OUTSIDE.exists():
        outside()


if __name__ == "__main__":
    main()
