"""Small templates for every construct, filter, test and method that
runtime/tokenizer/jinja renders. make_chat_templates.py renders them with
jinja2 itself."""

VARIABLES = {
    "text": "Hello, World",
    "padded": "  \t two words \n ",
    "unicode": "naïve Straße ΣΑΣ 日本語 🎉é́",
    "empty": "",
    "lines": "one\ntwo\r\nthree\n\nfive",
    "number": 7,
    "negative": -3,
    "zero": 0,
    "real": 2.5,
    "small": 1.5e-07,
    "large": 1e22,
    "yes": True,
    "no": False,
    "nothing": None,
    "list": [3, 1, 2, 10, -1],
    "names": ["bob", "Alice", "carol", "alice"],
    "mixed": [1, "two", None, True, 2.5, [1, 2], {"a": 1}],
    "dict": {"b": 2, "a": 1, "C": [1, 2], "items": "shadow"},
    "people": [
        {"name": "Ann", "age": 30, "tags": ["x", "y"], "on": True},
        {"name": "bob", "age": 25, "tags": [], "on": False},
        {"name": "Cid", "age": 35, "on": True},
    ],
    "nested": {"a": {"b": {"c": [1, {"d": "deep"}]}}},
    "quotes": "it's \"quoted\" \\ back",
    "control": "a\tb\nc\x00d\x1f\x7f\u200b\xa0",
    "html": "<a href='x'>&amp;</a>",
    "json": {"type": "object", "properties": {"city": {"type": "string",
             "enum": ["Köln", "東京"], "d": 1.0, "e": None, "f": [], "g": {}}}},
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 % -3, 7.5 // 2, -7.5 % 2, 7.5 % -2
2 ** 10, 2 ** -1, (-2) ** 3, -2 ** 2, 2 ** 3 ** 2, 2.0 ** 0.5
7 / 2, 8 / 2, 1 / 3, -1 / 3
1e3, 1.5e-7, 1_000, 1_0.2_5, 1e16, 1e15, 123456789012345678, 0.1 + 0.2
100000.0 * 10000000000.0, 1e300 * 1e10, -1e300 * 1e10
1 == 1.0, 1 == true, "1" == 1, none == none, [1] == [1.0], (1,) == [1]
{"a": 1} == {"a": 1.0}, {"a": 1} == {"b": 1}, undefd == undefd, undefd == none
1 < 2 < 3, 1 < 2 > 3, 3 > 2 >= 2, 1 < 2 < 2
"a" < "b", "Z" < "a", [1, 2] < [1, 3], [1] < [1, 0], "é" > "z"
1 in [1, 2], "a" in "abc", "a" in {"a": 1}, 3 not in [1, 2], none in [none]
"x" in undefd, not 1 in [1], not not yes, 1 in (1, 2), 1.0 in [1]
true and 1, 0 or "x", none or 0 or "", 1 and 0 and 2, not (1 and 0)
"a" ~ 1 ~ none ~ 2.5 ~ true ~ undefd ~ [1, "x"]
"a" + "b" * 3, 2 * "xy", [1] + [2, 3], [0] * 3, (1,) + (2,), 0 * "x", -1 * [1]
"abc" "def" 'ghi'
1 if yes else 2, 1 if no else 2, 1 if no, "a" if yes else "b" if no else "c"
(1, 2, 3), (1,), (), 1, 2
[1, "a", none, true, 2.5, [], {}, ()]
{"a": 1, "b": [1, 2], 3: "x", none: 4, true: 5, 1.5: 6}
{1: "a", 1.0: "b", true: "c"}
{"a": 1, "a": 2}
text[0], text[-1], text[100], text[1:4], text[::-1], text[-5:], text[:-5], text[::2]
unicode[6:12], unicode[-2], unicode | length, unicode[::-1]
list[0], list[-1], list[9], list[1:3], list[::-1], list[::2], list[3:1:-1], list[:100]
list[true], list["x"], dict["b"], dict["zz"], dict.b, dict.zz, dict["items"]
(1, 2, 3)[1:], range(10)[2:8:3] | list, list[5:], list[-100:2]
text[none:3], list[none:none:none]
nested.a.b.c[1].d, nested["a"]["b"].c.0, nested.a.x, nested.a["b"]["c"][-1]["d"]
nothing.foo, nothing["foo"], number.foo, text.foo, undefd
people[0].name, people[0]["tags"][1], people[2].tags, people[-1].age
quotes, [quotes], ["it's"], ['say "x"'], [control], ["é", "\u00a0", "\U0001F389"]
'\n\t\x41\u00e9\101\'\"\\\q\a', "a\
b"
text.upper(), text.lower(), text.title(), text.capitalize(), text.swapcase()
unicode.upper(), unicode.lower(), unicode.title(), unicode.capitalize(), unicode.swapcase()
"they're bill's friends".title(), "they're bill-s (x) friends" | title, "ǆ".title(), "ﬁx".upper()
padded.strip(), padded.lstrip(), padded.rstrip(), "xxaxx".strip("x"), "abcba".strip("ab"), "x".strip("")
"xaxx".lstrip("x"), "xaxx".rstrip("x"), "\u3000a\x1f".strip(), "日a日".strip("日")
"a,b,,c".split(","), "a,b,,c".split(",", 1), "  a b  c ".split(), "a b c".split(none, 1), "".split(), "".split(",")
"a,b,c".rsplit(",", 1), "  a b c ".rsplit(none, 1), "abc".split("x"), "a--b".split("--"), "abc".split(sep="b")
lines.splitlines(), lines.splitlines(true), "".splitlines(), "a\x0bb\u2028c".splitlines()
text.startswith("Hello"), text.startswith(("x", "He")), text.endswith("World"), text.startswith("World", 7)
text.replace("l", "L"), text.replace("l", "L", 1), "aaa".replace("", "-"), "aaa".replace("", "-", 2), text.replace("x", "y")
text.find("o"), text.rfind("o"), text.find("zz"), text.index("W"), text.count("l"), "aaa".count("aa"), unicode.find("日"), "abc".count("")
"-".join(["a", "b"]), "".join(names), ",".join("abc"), ",".join({"x": 1, "y": 2})
"a-b-c".partition("-"), "a-b-c".rpartition("-"), "abc".partition("x"), "abc".rpartition("x")
"12".isdigit(), "".isdigit(), "a1".isalnum(), "ab".isalpha(), " \t".isspace(), "aB".isupper(), "AB".isupper(), "a1".islower(), "١".isdecimal()
"42".zfill(5), "-42".zfill(5), "x".ljust(3) ~ "|", "x".rjust(3), "x".center(4) ~ "|", "xy".center(5, "*")
"prefix-x".removeprefix("prefix-"), "x-suffix".removesuffix("-suffix"), "x".removeprefix("y")
"{} {} {}".format(1, "a", none), "{0}{1}{0}".format("x", 2), "{a}".format(a=[1]), "{{}}".format(), "{!r}".format("x")
"%s %d %r" % ("a", 5, "b"), "%5.2f|%-5s|%05d|%x" % (3.14159, "ab", 42, 255), "%%" % (), "%(a)s" % {"a": 1}, "%s" % "x", "%s" % 3
list.index(2), list.count(1), (1, 2, 1).count(1), names.index("Alice")
dict.keys() | list, dict.values() | list, dict.get("b"), dict.get("zz"), dict.get("zz", 5), dict.items() | list
dict.keys(), dict.values(), dict.items()
dict | length, text | length, list | count, empty | length, undefd | length, {} | length
list | first, list | last, text | first, text | last, empty | first, [] | last, dict | first, dict | last
list | sort, list | sort(reverse=true), names | sort, names | sort(case_sensitive=true), names | sort(true)
people | sort(attribute="age") | map(attribute="name") | list, people | sort(attribute="name", reverse=true) | map(attribute="name") | join(",")
list | min, list | max, [] | min, names | min, names | max(case_sensitive=true), people | max(attribute="age")
list | sum, [] | sum, [0.1, 0.2, 0.3] | sum, people | sum(attribute="age"), [[1], [2]] | sum(start=[])
list | reverse | list, text | reverse, (1, 2) | reverse | list, {"a": 1, "b": 2} | reverse | list
list | join, list | join(", "), names | join("-"), people | join(", ", attribute="name"), text | join("."), undefd | join
names | unique | list, names | unique(case_sensitive=true) | list, [1, 1.0, true, 2] | unique | list, people | unique(attribute="on") | map(attribute="name") | list
people | map(attribute="name") | list, people | map(attribute="tags.0", default="-") | list, people | map(attribute="zz", default=0) | list
names | map("upper") | list, names | map("replace", "a", "4") | join(" "), [1.5, 2] | map("int") | list, [" a "] | map("trim") | list
list | select | list, [0, 1, none, "", "a"] | select | list, list | select("odd") | list, list | select("gt", 1) | list, list | select("in", [1, 2]) | list
list | reject("even") | list, [0, 1] | reject | list, list | reject("equalto", 1) | list, mixed | select("string") | list
people | selectattr("on") | map(attribute="name") | list, people | selectattr("age", "ge", 30) | map(attribute="name") | list
people | rejectattr("on") | map(attribute="name") | list, people | selectattr("name", "equalto", "bob") | list | length
people | selectattr("tags", "defined") | list | length, people | selectattr("tags", "undefined") | map(attribute="name") | first
undefd | default("x"), none | default("x"), "" | default("x"), "" | default("x", true), none | d("y", boolean=true), 0 | d(5), undefd | d
"3" | int, "3.7" | int, "x" | int, "x" | int(5), 3.9 | int, -3.9 | int, true | int, none | int, "0x1f" | int(0, 16), " 42 " | int, "1_000" | int, "ff" | int(base=16)
"3.5" | float, "x" | float, "x" | float(1.5), 3 | float, "1e3" | float, "inf" | float, "nan" | float, none | float, "1_0.5" | float
2.5 | round, 3.5 | round, 2.567 | round(2), 2.5 | round(0, "ceil"), 2.5 | round(method="floor"), 5 | round, -2.5 | round, 1.005 | round(2), 2.675 | round(2)
-5 | abs, 2.5 | abs, (-2.5) | abs, true | abs, (-0.0) | abs
text | upper, text | lower, text | title, "hello-world foo(bar" | title, "FOO bar" | capitalize, 5 | upper, none | lower
padded | trim, "xxaxx" | trim("x"), 5 | trim, undefd | trim | length
text | replace("l", "L"), text | replace("l", "L", 2), 1231 | replace(1, 9), none | replace("N", "n")
5 | string, none | string, [1, "a"] | string, undefd | string | length, 1.0 | string
"ab" | list, {"a": 1, "b": 2} | list, undefd | list, (1, 2) | list, range(3) | list
{"b": 1, "A": 2, "c": 0} | dictsort, {"b": 1, "A": 2} | dictsort(true), {"b": 1, "A": 2} | dictsort(by="value"), {"b": 1, "A": 2} | dictsort(reverse=true)
{"a": 1} | items | list, undefd | items | list
lines | indent, lines | indent(2), lines | indent(2, true), lines | indent(2, false, true), lines | indent("> "), "a" | indent(first=true), "a\n" | indent(2)
[1, 2, 3, 4, 5] | batch(2) | list, [1, 2, 3] | batch(2, "x") | list, [1, 2, 3, 4, 5] | slice(2) | list, [1, 2, 3] | slice(2, 0) | list
"x" | center(5) ~ "|", "%s-%s" | format("a", 1), "%(x)s" | format(x=2)
text | truncate(5), "foo bar baz qux" | truncate(9), "foo bar baz qux" | truncate(9, true), "foo bar baz qux" | truncate(11, false, "..", 0)
people | map(attribute="name") | first, names | attr("foo"), people[0] | attr("name"), dict | attr("keys") is callable
html | escape, html | safe, (html | safe) + "<", "<" + (html | e), (html | safe) ~ "<", [1] | safe
json | tojson, json | tojson(indent=2), json | tojson(indent=4), json | tojson(ensure_ascii=true), json | tojson(sort_keys=true), json | tojson(separators=(",", ":"))
text | tojson, quotes | tojson, control | tojson, control | tojson(true), unicode | tojson(ensure_ascii=true), none | tojson, true | tojson, 1.0 | tojson, 1e22 | tojson, 1e-7 | tojson
[] | tojson, {} | tojson, [1, [2, []], {}] | tojson(indent=1), {"a": {"b": []}} | tojson(indent=0), (1, 2) | tojson, {1: 2, none: 3, true: 4, 2.5: 5} | tojson, [1, 2] | tojson(indent="\t")
"inf" | float | tojson, "nan" | float | tojson, -1 * ("inf" | float) | tojson
mixed, [mixed], dict, json, people[0], 1.0, 100.0, 1e100, 1e-5, 0.0001, 123456.789, -0.0, 5e-324, 1.7976931348623157e308
small, large, real, 1e16 + 1, 12345678901234567.0, 0.1, 1/3, 2/3*100
yes is true, yes is sameas true, 1 is true, no is false, none is none, undefd is none, undefd is undefined, text is defined
text is string, 1 is string, 1 is number, 1.5 is number, true is number, 1 is integer, true is integer, 1.0 is float, true is boolean
list is iterable, text is iterable, 1 is iterable, dict is mapping, list is mapping, list is sequence, dict is sequence, text is sequence, 1 is sequence, undefd is iterable, undefd is sequence
(1, 2) is sequence, range(3) is sequence, dict.keys() is sequence, (list | map("string")) is iterable, (list | map("string")) is sequence
3 is odd, 4 is even, 6 is divisibleby 3, 6 is divisibleby(4), -3 is odd
1 is eq 1, 1 is equalto(2), 1 is ne 2, 1 is lt 2, 1 is le 1, 2 is gt 1, 2 is ge 3, 1 is in [1, 2], 1 is not in [1, 2], 1 is lessthan 2, 2 is greaterthan 1
"abc" is lower, "ABC" is upper, "aBc" is lower, "1" is lower, "upper" is filter, "zz" is filter, "odd" is test
text is not string, not text is string, 1 is not none, undefd is not defined and 1 is defined
namespace is callable, text.upper is callable, text is callable, range is defined
range(5) | list, range(2, 5) | list, range(10, 0, -3) | list, range(0) | list, range(5) | length, range(3) | sum, 2 in range(3)
dict(a=1, b="x"), dict({"a": 1}, b=2), dict([("a", 1)]), dict()
namespace(a=1).a, namespace({"x": 2}, y=3).x, namespace().zz
(list | sort)[0], (names | map("upper") | list)[-1], text.split(", ")[1][0], ("a" ~ "b") | upper, -list[0], -list[0] | abs
yes and not no or nothing, 1 + (2 if no else 3) * 2, [x for_x] if false else 1
"a" in "abc" and 1 == 1, ("x" if yes) ~ "y", (undefd or "d") | upper, undefd.x is defined if undefd is defined else "safe"
[1, 2, 3,], {"a": 1,}, (1, 2,), "%d" % 3.9
"x" * 0, "" ~ "", [] + [], {} == {}, "" in "abc", "abc" in ["abc"], "" in ""
text.split(",") | map("trim") | map("upper") | join("/"), people | map(attribute="tags") | select("defined") | map("length") | list
text.__class__, [].append, {}.update, yes.foo
""".strip("\n")

# Each is an error in jinja2: while it renders or, by what is not there, sooner.
ERRORS = r"""
{{ undefd.x }}
{{ undefd["x"] }}
{{ undefd() }}
{{ undefd + 1 }}
{{ 1 + undefd }}
{{ "a" + 1 }}
{{ 1 + "a" }}
{{ none + 1 }}
{{ [1] + "a" }}
{{ 1 < "a" }}
{{ none < 1 }}
{{ undefd < 1 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1.5 // 0 }}
{{ 1 in 1 }}
{{ 1 in "a" }}
{{ 1 in none }}
{{ text() }}
{{ text.upper(1) }}
{{ text.foo() }}
{{ list.append(1) }}
{{ dict.update({}) }}
{{ list.pop() }}
{{ number | length }}
{{ none | list }}
{{ 1 | join }}
{{ undefd | tojson }}
{{ [undefd] | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ range(3) | tojson }}
{{ list[::0] }}
{{ nothing[::-1] }}
{{ dict[1:2] }}
{{ {[1]: 2} }}
{{ range(200000) }}
{{ range(1, 2, 0) }}
{{ raise_exception("boom") }}
{{ raise_exception("Ünïcode " ~ number) }}
{{ raise_exception(5) }}
{{ names | sort(attribute="x.y") | list }}
{{ mixed | sort }}
{{ -text }}
{{ -undefd }}
{{ people | map(attribute="tags.0.x") | list }}
{{ "abc".index("z") }}
{{ list.index(99) }}
{{ "a".split("") }}
{{ "%d" % "x" }}
{{ "%s %s" % ("a",) }}
{{ "a" % 1 }}
{{ "{}".format() }}
{{ 1 | items | list }}
{{ none | dictsort }}
{{ "x" | round }}
{{ undefd | int }}
{{ undefd | float }}
{{ list | last(1) }}
{{ text | default(1, 2, 3) }}
{{ text | default(foo=1) }}
{{ (1, 2) | map("nofilter") | list }}
{{ [1] | select("notest") | list }}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% set a, b = 1 %}
{% set a, b = [1, 2, 3] %}
{% set text.x = 1 %}
{% set ns.x = 1 %}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=1) }}
{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}
{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}
{% for x in list %}{{ loop.nextitem.x }}{% endfor %}
""".strip("\n").split("\n")

# Each is refused by jinja2 when it is compiled.
SYNTAX_ERRORS = r"""
{{ 1 + }}
{{ }}
{{ 'abc }}
{{ (1, 2 }}
{{ [1, 2 }}
{{ a..b }}
{{ a b }}
{{ 1 if }}
{{ x | }}
{{ x | nofilter }}
{{ x is notest }}
{{ x is }}
{{ f(a=1, 2) }}
{{ "\x4" }}
{{ "\u12" }}
{{ a $ b }}
{% if x %}
{% if %}{% endif %}
{% for x in y %}
{% for in y %}{% endfor %}
{% for x y %}{% endfor %}
{% endif %}
{% endfor %}
{% else %}
{% unknown %}
{% set = 1 %}
{% set x %}
{% set 1 = 2 %}
{% set true = 2 %}
{% macro %}{% endmacro %}
{% macro m( %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% call x %}{% endcall %}
{% break %}
{% continue %}
{{ x
{% if x
{# never closed
{% raw %} never closed
{{ ) }}
{% do x %}
{{ 1 is 2 }}
{{ x is defined is defined }}
""".strip("\n").split("\n")

STATEMENTS = [
    # White space control.
    "a\n  {% if yes %}\n  b\n  {% endif %}\n c\n",
    "a {% if yes %} b {% endif %} c",
    "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\n c\n\n",
    "a\n  {%+ if yes +%}\n  b\n  {%+ endif +%}\n c",
    "x  {{- 1 -}}  y  {{ 2 }}  z\n{{ 3 }}\n{{- 4 }}\n  {{ 5 }}\n",
    "  {# c #}  \n a {# b #} c\n\t{#- d -#}\n e {#+ f +#}\n g{# h\ni #}\n",
    "{% if yes %}\n{% if yes %}\n  x\n{% endif %}\n{% endif %}\n",
    "a\r\nb\rc{{ '\r\n' }}d\r\n{% if yes %}\r\n e\r\n{% endif %}\r\n",
    "{% raw %}{{ not }} {% this %} {# nor #}{% endraw %}",
    " {% raw %}\n x {{ y }}\n {% endraw %}\n z",
    "a\n {%- raw -%}\n x \n {%- endraw -%}\n z",
    "{%- raw %} a {% endraw -%} b",
    "a \u00a0{%- if yes %} b{% endif %}\u2003{{- 1 }}",
    "\n\n{% set x = 1 %}\n\n{{ x }}\n\n\n",
    "   {% set x = 1 %}   \n   {{ x }}   \n",
    "{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a':{}} }}",
    "{%if yes%}a{%endif%}{{1}}{%-if yes-%}b{%-endif-%}",
    "{{ 1 }}{% print 2, text %}{{ 3 }}",
    "{% if yes %}a\n{% else %}b\n{% endif %}\nc",
    "x\n\t{% for i in [1, 2] %}\n\t\t{{ i }}\n\t{% endfor %}\ny",
    "{{-1}}|{{ -1 }}|{{+1}}|{{ - 1 }}",
    "a\x0b {% if yes %}b{% endif %}\x1c{%- if yes %}c{% endif %}",
    # if, set.
    "{% if no %}a{% elif nothing %}b{% elif 1 %}c{% else %}d{% endif %}",
    "{% if undefd %}a{% else %}b{% endif %}{% if 1, %}t{% endif %}",
    "{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1, 2] %}{{ x is defined }}{% set x = i %}{{ x }}{% endfor %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, b) = (b, a) %}{{ a }}{{ b }}",
    "{% set a, = [9] %}",
    "{% set x = 1, 2 %}{{ x }}{% set x = 1 if no else 3 %}{{ x }}",
    "{% set x %}a {{ number }} b{% endset %}[{{ x }}]{{ x is string }}",
    "{% set x | upper | replace('A', 'b') %}a {{ text }}{% endset %}{{ x }}",
    "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}",
    "{% set ns = namespace(n=0) %}{% for i in list %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set ns = namespace() %}{% set ns.a %}x{% endset %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace(a=1, b=2) %}{% set ns.a, ns.b = ns.b, ns.a %}{{ ns.a }}{{ ns['b'] }}",
    "{% set range = 5 %}{{ range }}{% set loop = 3 %}{{ loop }}{% for i in [1] %}{{ loop.index }}{% endfor %}{{ loop }}",
    "{% set text = text ~ '!' %}{{ text }}{% set text = text ~ '!' %}{{ text }}",
    "{% set false_ = false %}{{ false_ }}{{ True }}{{ False }}{{ None }}",
    # for.
    "{% for x in list %}{{ loop.index }},{{ loop.index0 }},{{ loop.revindex }},{{ loop.revindex0 }},{{ loop.first }},{{ loop.last }},{{ loop.length }},{{ loop.depth }},{{ loop.depth0 }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in list %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for x in [] %}a{% else %}b{% endfor %}{% for x in [1] %}a{% else %}b{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}",
    "{% for x in list if x > 100 %}{{ x }}{% else %}none{% endfor %}",
    "{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in dict | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in dict %}{{ k }}{% endfor %}{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for x in undefd %}a{% else %}b{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}-{{ b }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}{% for x in (4, 5) %}{{ x }}{% endfor %}",
    "{% for x in [1, 2] %}{% for y in ['a', 'b'] %}{{ x }}{{ y }}{{ loop.index }}{{ loop.depth }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in list %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}.",
    "{% for x in list %}{% if x < 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}.",
    "{% for x in [1, 2] %}{% for y in [1, 2, 3] %}{% if y == 2 %}{% break %}{% endif %}{{ x }}{{ y }}{% endfor %};{% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b', 'c') }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in list | sort %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in list[::-1] %}{{ x }}{% endfor %}{% for x in range(3) %}{{ x }}{% endfor %}",
    "{% for i in range(3) %}{% set n = i * 2 %}{{ n }}{% endfor %}{{ n is defined }}{{ i is defined }}",
    "{% set g = list | select('gt', 1) %}{% for x in g %}{{ x }}{% endfor %}|{% for x in g %}{{ x }}{% endfor %}",
    "{% set g = names | map('upper') %}{{ g | first }}{{ g | list }}{{ g | list }}",
    "{% for p in people %}{{ p.name }}{% if p.tags %}:{{ p.tags | join('+') }}{% endif %}\n{% endfor %}",
    "{% for x in [1,2,3] %}{% set loop_copy = loop %}{% if loop_copy.last %}{{ loop_copy.index }}{% endif %}{% endfor %}",
    "{% for x in [[1, 2], [3]] %}{{ loop.index }}{% for x in x %}{{ x }}{% endfor %}{{ x }}{% endfor %}",
    "{% for message in people %}{{ message['name'] + '\\n' }}{% endfor %}",
    # macro, call, filter, with, generation.
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c='y') }}|{{ m(b=5, a=4) }}|{{ m() }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ number }}{% endcall %}",
    "{% macro m(items) %}{% for i in items %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(x, n) m([1, 2]) %}({{ x }}:{{ n }}){% endcall %}",
    "{% macro m() %}{{ outer }}{% endmacro %}{% set outer = 1 %}{{ m() }}{% set outer = 2 %}{{ m() }}",
    "{% macro m() %}\n  x\n  {%- if yes %} y {% endif %}\n{% endmacro %}[{{ m() }}]{{ m() | trim | upper }}",
    "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro a() %}a{{ b() }}{% endmacro %}{% macro b() %}b{% endmacro %}{{ a() }}",
    "{% set ns = namespace() %}{% macro m(x) %}<{{ x }}>{% endmacro %}{% set ns.f = m %}{{ ns.f(1) }}",
    "{% macro m(d) %}{% for k, v in d.items() %}{{ k }}{% if v is mapping %}({{ m(v) }}){% else %}={{ v }}{% endif %};{% endfor %}{% endmacro %}{{ m(nested) }}",
    "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}{{ m(none) }}",
    "{% filter upper %}abc {{ text }}{% endfilter %}{% filter replace('a', 'b') | upper %}banana{% endfilter %}",
    "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% set a = 1 %}{% with a=2, b=a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% for x in [1, 2] %}a{% generation %}{{ x }} b{% endgeneration %}\n{% endfor %}",
    "{% generation %}\n{% set z = 1 %}{{ z }}{%- endgeneration %}{{ z is defined }}",
    "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(5, *[6]) }}",
    "{{ strftime_now('%Y-%m-%d %H:%M %b %d %%') }}{{ strftime_now('') }}",
    "{{ [1, 2] | map('string') | join }}{{ dict(a=1) | tojson }}{{ namespace(a=1).a }}",
    "{{ people | tojson(indent=2) }}",
    "{%- set sys = people | selectattr('name', 'equalto', 'bob') | list -%}{{ sys[0].age if sys else 'none' }}",
    "{{ '\\u00e9\\x41' ~ \"\\\"\" ~ '\\'' ~ '\\\\' }}",
    "{% set x = '{{ y }}' %}{{ x }}{{ '{% z %}' }}",
    "{{ (list | length > 3) and 'big' or 'small' }}{{ list | length > 3 }}",
    "{% if list is iterable and list is not string and list is not mapping %}y{% endif %}",
    "{% if (people | selectattr('on') | list | length) == 2 %}two{% endif %}",
    "{% set _ = names %}{{ _ | length }}{% set x1 = {'a': names} %}{{ x1.a.0 }}",
    "{{ names[0].upper()[0] ~ names[1:] | join('') }}{{ (names[0], 1)[0] }}",
]
