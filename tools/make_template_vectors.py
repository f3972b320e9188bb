#!/usr/bin/env python3
"""Writes tests/data/chat_template/vectors.jsonl: what Jinja2, set up as transformers does it, renders.

    python3 -m venv V && V/bin/pip install jinja2 && V/bin/python tools/make_template_vectors.py

Each line: {"template": name or source, "variables": {...}, "text": ...} or {..., "error": ...}. Seeds are fixed; the
first line records versions. The set-up follows transformers' utils/chat_template_utils.py: ImmutableSandboxedEnvironment
with trim_blocks, lstrip_blocks, loop controls, a tojson without HTML escaping, raise_exception and strftime_now.
"""

import datetime
import json
import pathlib
import random
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests/data/chat_template"
NOW = 1767323045  # 2026-01-02 03:04:05 UTC

SNIPPETS = r"""
{{ 1 + 2 * 3 }}|{{ (1 + 2) * 3 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ -7 % 3 }}|{{ 7 / 2 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}
{{ 1.0 }}|{{ 1e16 }}|{{ 1e15 }}|{{ 0.0001 }}|{{ 0.00001 }}|{{ 1/3 }}|{{ 100.5 }}|{{ -0.0 }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] }}|{{ 'ab' * 3 }}|{{ [1] * 2 + [3] }}|{{ (1, 2) }}|{{ (1,) }}
{{ 'x' in 'xyz' }}|{{ 1 in [1, 2] }}|{{ 'k' in {'k': 1} }}|{{ 3 not in [1] }}|{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 1 == 1.0 }}
{{ not true or true and false }}|{{ '' or 'x' }}|{{ 'a' and 'b' }}|{{ none or 0 }}|{{ not '' }}
{{ 'yes' if 1 else 'no' }}|{{ 'yes' if 0 }}|{{ 'a' if 0 else 'b' if 0 else 'c' }}
{{ undefined_thing }}|{{ undefined_thing is defined }}|{{ undefined_thing | default('d') }}|{{ '' | default('d', true) }}|{{ undefined_thing | length }}
{{ undefined_thing.attribute }}
{{ undefined_thing + 1 }}
{{ 'a' + 1 }}
{{ d.missing }}|{{ d['missing'] is undefined }}|{{ d.k }}|{{ d['k'] }}|{{ d.get('k') }}|{{ d.get('zz', 5) }}|{{ d.items() | list }}
{{ d.missing.more }}
{{ l[0] }}|{{ l[-1] }}|{{ l[1:] }}|{{ l[:-1] }}|{{ l[::-1] }}|{{ l[::2] }}|{{ l[5:] }}|{{ l[-2:] }}|{{ l[10] }}|{{ 'hello'[1:3] }}|{{ 'hello'[::-1] }}
{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a b c'.split(' ', 1) }}|{{ 'a-b-c'.rsplit('-', 1) }}
{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ 'hello world'.title() }}|{{ 'hELLO'.capitalize() }}|{{ 'ß'.upper() }}|{{ 'a.b'.replace('.', '-') }}
{{ 'hello wORLD' | title }}|{{ 'hELLO' | capitalize }}|{{ 'x' | upper }}|{{ 'ÄÖ' | lower }}|{{ ' x ' | trim }}|{{ 'a' | replace('a', 'b') }}
{{ l | join(', ') }}|{{ l | first }}|{{ l | last }}|{{ l | length }}|{{ l | reverse | list }}|{{ l | sort(reverse=true) }}|{{ [3,1,2] | sort }}|{{ ['b','A','c'] | sort }}
{{ [1,2,2,3] | unique | list }}|{{ [0,1,2] | select | list }}|{{ [1,2,3,4] | select('odd') | list }}|{{ [1,2,3] | reject('equalto', 2) | list }}|{{ ['a','b'] | map('upper') | list }}
{{ [{'a': 1, 'b': 2}, {'a': 3}] | map(attribute='a') | list }}|{{ [{'a': 1}, {'a': 0}] | selectattr('a') | list }}|{{ [{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | list }}|{{ [{'a': 1}, {'b': 2}] | rejectattr('a', 'defined') | list }}
{{ [{'a': {'b': 1}}, {'a': {'b': [5, 6]}}] | map(attribute='a.b') | list }}|{{ [{'a': [7, 8]}, {'a': [9]}] | map(attribute='a.0') | list }}|{{ [[3, 1], [2, 4]] | map(attribute=1) | list }}|{{ [[3, 1], [2, 4]] | map(attribute='1') | list }}
{{ [{'a': {'b': 2}}, {'a': {'b': 1}}] | sort(attribute='a.b') }}|{{ [{'a': {'b': 2}}, {'a': {'b': 0}}] | selectattr('a.b') | list }}|{{ [{'a': {'b': 'x'}}, {'a': {'b': 'y'}}] | join('-', attribute='a.b') }}|{{ [[3, 1], [2, 4]] | sort(attribute=0) }}
{{ [{'a': 1}] | map(attribute='x.y') | list }}
{{ [{'a': 1}] | map(attribute='x.y', default='none') | list }}
{{ d | tojson }}|{{ d | tojson(indent=2) }}|{{ 'é"\n</a>' | tojson }}|{{ [] | tojson }}|{{ {} | tojson(indent=4) }}|{{ [1, [2, {'x': none}]] | tojson(indent=1) }}|{{ 1.0 | tojson }}|{{ true | tojson }}
{{ '3' | int }}|{{ 'x' | int }}|{{ 'x' | int(7) }}|{{ 3.9 | int }}|{{ '2.5' | float }}|{{ -3 | abs }}|{{ 2.567 | round(2) }}|{{ 2.5 | round }}|{{ 3 | string + 'x' }}
{{ d | dictsort }}|{{ {'b': 1, 'A': 2} | dictsort }}|{{ d | items | list }}|{{ d.keys() | list }}|{{ d.values() | list }}|{{ d | list }}
{{ 1 is number }}|{{ 'a' is string }}|{{ d is mapping }}|{{ l is sequence }}|{{ l is iterable }}|{{ none is none }}|{{ true is boolean }}|{{ 1 is integer }}|{{ 1.5 is float }}|{{ 3 is odd }}|{{ 4 is divisibleby 2 }}|{{ 1 is in [1] }}|{{ 1 is not none }}|{{ true is true }}|{{ 1 is eq 1 }}|{{ 'a' is not string }}
{{ -1 | abs }}|{{ -l | length if false else 'ok' }}|{{ not l is string }}|{{ l[0] | string ~ 'x' }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ x }};{% endfor %}
{% for x in l if x > 1 %}{{ x }}{% else %}none{% endfor %}|{% for x in [] %}x{% else %}empty{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }},{% endfor %}
{% for x in l %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% for y in 'ab' %}{{ x }}{{ y }}{{ loop.index }}{% endfor %}{{ loop.index }}|{% endfor %}
{% for x in l %}{{ loop.previtem }}-{{ loop.nextitem }};{% endfor %}|{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}
{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}|{% set ns = namespace(v=1) %}{% for i in [1, 2] %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}
{% set x %}block {{ 1 }}{% endset %}[{{ x }}]|{% set a, b = 1, 2 %}{{ a }}{{ b }}|{% if true %}{% set z = 5 %}{% endif %}{{ z }}
{% macro m(a, b='B', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m('x') | upper }}
{% macro outer(n) %}{% if n > 0 %}{{ n }}{{ outer(n - 1) }}{% endif %}{% endmacro %}{{ outer(3) }}
{% set g = 'global' %}{% macro m() %}{{ g }}{% endmacro %}{{ m() }}
{{ ['\u3000a\u00a0' | trim, '\u2028b\u0085'.strip(), '\x1cc\u2003'.rstrip(), '\u200bd'.lstrip()] }}|{{ 'éaé'.strip('é') }}
{{ '\u2003a\u0085b\u2028 c\u3000'.split() }}|{{ '\u3000a b\u2003c'.rsplit(none, 1) }}|{{ 'x\u00a0y'.split(none, 1) }}
{{ 'a\u0085b\u2028c\x0bd\r\ne\n\x1cf'.splitlines() }}
{{ ['\u00a0\u200b\u2028\U000e0001é漢\x7f\x01\u0085\ue000'] }}|{{ {'\u2029': 'ä'} }}
{{ '²٣'.isdigit() }}|{{ '½'.isdigit() }}|{{ ''.isdigit() }}|{{ '１2'.isdigit() }}
{{ raise_exception('bad thing: ' ~ 1) }}
{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d') }}
{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}|{% if 0 %}a{% elif 2 %}b{% else %}c{% endif %}|{% if 0 %}a{% else %}c{% endif %}
{%- if true -%}  x  {%- endif -%}  y {{- ' z ' -}} w
{# comment #}a{#- strip -#} b {# x #}
{% raw %}{{ not rendered }}{% endraw %}|{{ '{{' }}|{{ "a\nb\t\"q\"" }}|{{ 'it''s' }}|{{ 'a' 'b' }}|{{ "\u00e9\x41" }}
{{ [1, 'a', "it's", none, true, 1.5, {'k': [1]}] }}|{{ {'a': {'b': 'c'}} }}|{{ 'q"' | list }}
{{ range(3) | list }}|{{ range(1, 10, 3) | list }}|{{ range(5, 0, -2) | list }}
{{ dict(a=1, b=2) }}|{{ d.k is defined and d.k == 1 }}|{{ (d.k, d.s) | join('-') }}|{{ l | map('string') | join('+') }}
{{ 'line1\nline2' | indent }}|{{ 'a\n\nb' | indent(2, first=true) }}|{{ 'ab' | list }}|{{ l | string }}
{{ messages[0].content if messages is defined else 'no messages' }}|{{ tools is none }}|{{ x.y is defined }}
{{ l.append(4) }}
{{ foo() }}
{{ 'abc'.nope() }}
{{ 1 / 0 }}
{{ none.x }}
{{ none + 1 }}
{{ 3 in 5 }}
{% for x in 5 %}{% endfor %}
{{ 'a' < 1 }}
""".strip().split("\n")

LAYOUTS = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n", "  {% if true %}  \n  b\n  {% endif %}\nc", "x {% if true %} y {% endif %} z\n\n",
    "{% for i in [1,2] %}\n  - {{ i }}\n{% endfor %}\nend", "{%- for i in [1,2] -%}\n  - {{ i }}\n{%- endfor -%}\nend",
    "a\n  {#- c #}\nb", "a\n  {# c #}\nb", "a\n  {# c -#}\nb", "  {{ 1 }}  \n  {{ 2 }}\n", "{% set x = 1 %}\n\n{{ x }}\n",
    "a {%+ if true %}b{% endif +%}\nc", "\n\n{{ 1 }}\n\n", "{% if true -%}\n\n x {%- endif %}\n y", "a\r\nb\r\n{% if true %}\r\nc\r\n{% endif %}",
    "{{ '}}' }}{{ '%}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "a{% raw %} {% if %} {% endraw %}b",
]

TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather <now> & \"later\"", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Die Stadt: Köln"}, "days": {"type": "integer"}},
    "required": ["city"]}}}
TOOL2 = {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
    "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}, "return": {"type": "number"}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": {
    "name": "get_weather", "arguments": {"city": "Paris", "days": 2}}}]}
CALL_TEXT = {"role": "assistant", "content": None, "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {
    "name": "add", "arguments": "{\"a\": 1, \"b\": 2}"}}]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"t\": 21}"}


def conversations():
    u = lambda text: {"role": "user", "content": text}
    a = lambda text: {"role": "assistant", "content": text}
    s = lambda text: {"role": "system", "content": text}
    plain = [
        [u("Hi")], [u("Hi"), a("Hello!")], [s("Be brief."), u("Hi")], [u("a"), a("b"), u("c")],
        [s("Be brief."), u("a"), a("b"), u("c"), a("d"), u("e")], [u("")], [u("  spaces  \n"), a("\n\nx\n")],
        [u("Ünï 😀 漢字 \u0301"), a("ok"), u("<|im_end|> <s> [INST] <|eot_id|>")], [s(""), u("x")], [u("a"), u("b")], [a("first")],
        [s("\u3000Sei kurz.\u00a0"), u("\u2028Hi\u2003"), a("\u0085ja\u1680"), u("\u200bx\ufeff")],
        [s("only system")], [{"role": "critic", "content": "odd role"}], [u("a"), s("late system"), u("b")], [],
        [u("think"), a("<think>\nhm\n</think>\n\nanswer"), u("again")], [{"role": "user", "content": [{"type": "text", "text": "part"}]}],
        [u("a"), {"role": "assistant", "content": None}], [{"role": "user"}], [u("1"), a("2"), u("3"), a("4")],
        [{"role": "developer", "content": "dev"}, u("x")], [{"role": "ipython", "content": "out"}, u("x")],
        [s("Line1\nLine2"), u("multi\nline\r\ntext\ttab")], [u("a"), {"role": "assistant", "content": "b", "reasoning_content": "why"}, u("c")],
    ]
    tooled = [
        [u("Weather?")], [s("Sys"), u("Weather?")], [u("Weather?"), CALL, RESULT], [u("Weather?"), CALL, RESULT, a("21 degrees"), u("thanks")],
        [s("Sys"), u("Add"), CALL_TEXT, {"role": "tool", "tool_call_id": "abcdefghi", "content": "3"}],
        [u("Both"), {"role": "assistant", "content": "", "tool_calls": CALL["tool_calls"] + CALL_TEXT["tool_calls"]}, RESULT, RESULT],
        [u("x"), {"role": "assistant", "content": "text and call", "tool_calls": CALL["tool_calls"]}, {"role": "tool", "content": {"a": 1}}],
    ]
    out = []
    for i, messages in enumerate(plain):
        out.append({"messages": messages, "add_generation_prompt": i % 2 == 0})
    out.append({"messages": plain[0]})
    out.append({"messages": plain[2], "add_generation_prompt": True, "enable_thinking": False})
    out.append({"messages": plain[15], "add_generation_prompt": True, "enable_thinking": True})
    out.append({"messages": plain[3], "add_generation_prompt": False, "date_string": "01 Feb 2026"})
    for i, messages in enumerate(tooled):
        out.append({"messages": messages, "tools": [TOOL] if i % 2 else [TOOL, TOOL2], "add_generation_prompt": i % 3 != 0})
    out.append({"messages": tooled[1], "tools": [TOOL], "tools_in_user_message": False, "add_generation_prompt": True})
    out.append({"messages": tooled[0], "tools": [], "add_generation_prompt": True})
    out.append({"messages": tooled[0], "tools": None, "add_generation_prompt": True})
    for variables in out:
        variables.setdefault("bos_token", "<s>")
        variables.setdefault("eos_token", "</s>")
    return out


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    now = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: now.strftime(format)
    return env


def render(env, source, variables):
    try:
        return {"text": env.from_string(source).render(**variables)}
    except jinja2.exceptions.TemplateError as e:
        own = type(e) is jinja2.exceptions.TemplateError  # raised by the template itself: its text must be equal
        return {"error": str(e) if own else "", "kind": type(e).__name__}
    except Exception as e:  # Python's own: the text may differ
        return {"error": "", "kind": type(e).__name__}


def main():
    env = environment()
    rows = [{"jinja2": jinja2.__version__, "python": sys.version.split()[0], "now": NOW}]
    for path in sorted((FOLDER / "templates").glob("*.jinja")):
        source = path.read_text()
        for variables in conversations():
            rows.append({"template": path.name, "variables": variables, **render(env, source, variables)})
    basic = {"d": {"k": 1, "s": "x"}, "l": [1, 2, 3]}
    for source in SNIPPETS + LAYOUTS:
        rows.append({"source": source, "variables": basic, **render(env, source, basic)})
    # Every part of the lines above on its own: one failure must not hide the others.
    for source in SNIPPETS:
        for part in source.split("|{{"):
            piece = part if part.startswith("{") else "{{" + part
            rows.append({"source": piece, "variables": basic, **render(env, piece, basic)})
    with open(FOLDER / "vectors.jsonl", "w") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(len(rows) - 1, "vectors")


if __name__ == "__main__":
    main()
