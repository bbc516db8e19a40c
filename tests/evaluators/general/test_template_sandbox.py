"""Templates of task files: what the sandbox and its bounds refuse; honest templates give the same texts."""

import time
from collections.abc import Iterator

import jinja2
import pytest
from lm_eval import utils as harness
from lm_eval.utils import apply_template

from evaluators.general.template_limits import MAX_SIZE, TemplateLimitError, measure
from evaluators.general.template_sandbox import TaskTemplates, sandboxed_templates

DOCUMENT = {
    "text": " hello world ",
    "q": " hello",
    "choices": ["p", "q"],
    "words": [str(number) for number in range(20_000)],
    "n": 3,
}
WIDE = MAX_SIZE * 1000
HONEST = [
    "{{text.split(' ')[:-1]|join(' ')}} ____. ->",
    "Q: {{q.strip()}}\n{% for c in choices %}{{loop.index}}. {{c}}{% if not loop.last %}, {% endif %}{% endfor %}\n",
    "{{ '%s and %d' % (text, n) }} {{ '{} {:>5}'.format(text, n) }} {{ '%s %s'|format(q, n) }}",
    "{{ choices|map('upper')|join('; ') }} {{ 'x' if q is defined else 'y' }} {{ nothing|default('w') }}",
    "{{ text|regex_replace('l+(o)', 'L\\\\1') }} {{ ['a', 'b'].index('b') }} {{ {'a': choices}.a|length }}",
    "{% set ns = namespace(n=0) %}{% for c in choices if c != 'p' %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{% macro m(x, y=2) %}<{{x}}{{y}}{{ caller() if caller is defined else '' }}>{% endmacro %}"
    "{{ m(1) }}{% call m(3) %}inner{% endcall %}{% filter upper %}{{ text }}{% endfilter %}",
    "{{ choices[0] ~ choices[1:] }} {{ (1, 2)[0] }} {{ q in text }} {{ 3 // 2 * 2 ** 3 - -1 }} {{ n % 2 == 1 }}",
    "{{ choices|tojson(indent=2) }} {{ text|center(30) }} {{ 1.256|round(2) }} {{ text.replace('h', 'j') }}",
    "{% for k, v in {'a': 1}.items() %}{{k}}{{v}}{% endfor %}"
    "{% for a in [[1, [2]]] recursive %}{{ loop.depth }}{{ loop(a[1:]) if a is sequence else a }}{% endfor %}",
    "{{ text|wordwrap(3)|indent(4) }} {{ choices|batch(1)|list }} {{ choices|slice(2)|list }} {{ text|trim|title }}",
    "{{ cycler('a', 'b').next() }} {{ joiner(',')() }} {{ words|length }} {{ ', '.join(choices|map('upper')) }}\n",
]
FORBIDDEN = [
    "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{x.__class__.__mro__}'.format_map({'x': 1}) }}",
    "{{ words.append(1) }}",
    "{{ choices.clear() }}",
    "{{ (5).to_bytes(9, 'big') }}",
    "{{ words|groupby('__class__')|list }}",
]
TOO_MUCH = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in words %}{% for j in words %}{% if words == words %}{% endif %}{% endfor %}{% endfor %}",
    "{% for i in words %}{% if 'no' in words %}{% endif %}{% endfor %}",
    "{{ n ** 1000000000 }}",
    f"{{{{ 'x' * {WIDE} }}}}",
    f"{{{{ [1] * {WIDE} }}}}",
    f"{{{{ 'x'|center({WIDE}) }}}}",
    f"{{{{ 'x'.center({WIDE}) }}}}",
    f"{{{{ 'x'.ljust(width={WIDE}) if false else 'x'.zfill({WIDE}) }}}}",
    f"{{{{ '%{WIDE}d' % 1 }}}}",
    f"{{{{ '%*d' % ({WIDE}, 1) }}}}",
    f"{{{{ '{{:{WIDE}}}'.format(1) }}}}",
    f"{{{{ '{{:{{}}}}'.format(1, {WIDE}) }}}}",
    f"{{{{ '%{WIDE}d'|format(1) }}}}",
    f"{{{{ words|join('x' * {MAX_SIZE // 2}) }}}}",
    f"{{{{ ('x' * {MAX_SIZE // 2}).join(words) }}}}",
    f"{{{{ ('x' * {MAX_SIZE // 2})|replace('x', 'y' * 1000) }}}}",
    f"{{{{ ('x' * {MAX_SIZE // 2}).replace('', 'y' * 1000) }}}}",
    f"{{{{ ('x\\n' * {MAX_SIZE // 4})|indent({MAX_SIZE}) }}}}",
    f"{{{{ ('x ' * {MAX_SIZE // 4})|wordwrap(1, true, 'y' * 1000) }}}}",
    f"{{{{ [1]|batch({WIDE}, 1)|list }}}}",
    f"{{{{ [1]|slice({WIDE})|list }}}}",
    f"{{{{ 1.5|round({WIDE}, 'floor') }}}}",
    f"{{{{ [[1]]|tojson(indent={WIDE}) }}}}",
    f"{{% filter center({WIDE}) %}}x{{% endfilter %}}",
    f"{{% macro m() %}}{{{{ caller() * {WIDE} }}}}{{% endmacro %}}{{% call m() %}}x{{% endcall %}}",
    "{{ ([words] * 40)|map('sum')|list }}",
    "{{ words|map('center', 90000)|list|length }}",
    "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a|length }}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a={}) %}{% for i in range(60) %}{% set ns.a = dict(a=ns.a, b=ns.a) %}{% endfor %}{{ ns.a }}",
    "{% macro f(n) %}{{ 1 if n < 2 else f(n - 1) ~ f(n - 2) }}{% endmacro %}{{ f(60) }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set x %}{% for i in words %}{{ 'y' * 1000 }}{% endfor %}{% endset %}{{ x|length }}",
    "{% for i in range(9000) %}{{ 'y' * 1000 }}{% endfor %}",
    "x" * (MAX_SIZE + 1),
    "{{ ('a' * 60 ~ 'b')|regex_replace('(a|a|aa)+$', 'x') }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
]
NOT_THERE = ["{{ lipsum(n=10**6) }}", "{{ [1, 2]|random }}", "{% include '/etc/passwd' %}", "{% import 'os' as o %}"]


@pytest.fixture
def sandbox() -> Iterator[None]:
    with sandboxed_templates():
        yield


@pytest.mark.parametrize("template", HONEST)
def test_an_honest_template_gives_the_same_text(template: str) -> None:
    expected = apply_template(template, DOCUMENT)
    with sandboxed_templates():
        assert apply_template(template, DOCUMENT) == expected


@pytest.mark.parametrize("template", FORBIDDEN)
def test_no_way_leads_out_of_a_template(sandbox: None, template: str) -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        apply_template(template, DOCUMENT)


@pytest.mark.parametrize("template", TOO_MUCH)
def test_a_template_that_makes_too_much_is_refused(sandbox: None, template: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateLimitError):
        apply_template(template, DOCUMENT)
    # Processor time: far below what any of these would take.
    assert time.process_time() - started < 20


@pytest.mark.parametrize("template", NOT_THERE)
def test_what_draws_invents_or_reads_files_is_not_there(sandbox: None, template: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        apply_template(template, DOCUMENT)


def test_the_bounds_are_for_one_text_and_not_for_a_task() -> None:
    templates = TaskTemplates()
    template = templates.from_string("{% for word in words %}{{ word }}{% endfor %}")
    texts = {template.render(words=DOCUMENT["words"]) for _ in range(20)}
    assert texts == {"".join(DOCUMENT["words"])}


def test_what_a_value_holds_twice_counts_twice() -> None:
    inner = ["ab", "c"]
    assert (measure("ab"), measure(inner), measure([inner, inner]), measure({"k": inner})) == (2, 4, 9, 6)


def test_the_harness_is_given_its_environment_back() -> None:
    before = harness.env
    with sandboxed_templates():
        assert harness.env is not before
    assert harness.env is before
