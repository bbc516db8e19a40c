"""Jinja templates of task files in a sandbox: no way to Python's internals, and a bound on their work and size.

The harness renders templates in a plain environment, where `{{ cycler.__init__.__globals__.os.popen(...) }}` is a
command and a loop over a billion numbers never ends. Here every value of a template is counted and measured. The
bounds are counts and not seconds, so that a template fails on every machine or on none.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import regex
from jinja2 import BaseLoader, StrictUndefined, Template, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from evaluators.general.template_limits import (
    FILTER_SIZES,
    MAX_SIZE,
    MAX_STEPS,
    TemplateLimitError,
    checked_filter,
    measure,
    require_bits,
    require_method,
    require_narrow,
    require_product,
    require_size,
)

__all__ = ["TaskTemplates", "sandboxed_templates"]

_CHARACTERS_A_STEP = 100
# A regular expression has no steps that could be counted. Of processor time, so that load changes nothing; an honest
# one takes microseconds.
_REGEX_SECONDS = 1.0
_MEASURED = "measured value"
_Node = TypeVar("_Node", bound=nodes.Node)
# What draws at random, or invents text of any length.
_LEFT_OUT_FILTERS = ("random", "urlize", "pprint", "xmlattr")
_LEFT_OUT_GLOBALS = ("lipsum",)


class TaskTemplates(ImmutableSandboxedEnvironment):
    """The harness's environment for templates (its options, its filter), sandboxed and bounded."""

    def __init__(self) -> None:
        super().__init__(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True, optimized=False)
        self.intercepted_binops = frozenset(self.default_binop_table)
        self.template_class = _BoundedTemplate
        self.concat = _bounded_concat  # type: ignore[method-assign]
        self.steps = 0
        for name in _LEFT_OUT_FILTERS:
            del self.filters[name]
        for name in _LEFT_OUT_GLOBALS:
            del self.globals[name]
        for name, require in FILTER_SIZES.items():
            self.filters[name] = checked_filter(self.filters[name], require)
        self.filters["regex_replace"] = _regex_replace
        self.filters[_MEASURED] = _measured

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SIZE:
            raise TemplateLimitError(f"a template of {len(source)} characters; {MAX_SIZE} are the most")
        parsed: nodes.Template = _Measuring().visit(super()._parse(source, name, filename))
        return parsed

    def from_string(self, *args: Any, **kwargs: Any) -> Template:
        """Compile a template; raises TemplateError for wrong syntax, and for what Python cannot compile."""
        try:
            return super().from_string(*args, **kwargs)
        except (RecursionError, SyntaxError) as error:
            raise TemplateLimitError(f"a template is too deep: {type(error).__name__}") from None

    def charge(self, value: object) -> None:
        """Count the handling of a value; raises TemplateLimitError if it is too large, or the work too long."""
        self.steps += 1 + measure(value) // (_CHARACTERS_A_STEP if isinstance(value, str | bytes) else 1)
        if self.steps > MAX_STEPS:
            raise TemplateLimitError(f"a template takes more than {MAX_STEPS} steps")

    def call_filter(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        self.charge(value)
        made = super().call_filter(name, value, *args, **kwargs)
        self.charge(made)
        return made

    def call_test(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        self.charge(value)
        return super().call_test(name, value, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse the operations whose result could be far larger than what goes in, before they are made."""
        if operator == "*":
            require_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            require_bits(max(1, left.bit_length()) * abs(right))
        elif operator == "%" and isinstance(left, str | bytes):
            require_narrow(str(left), right if isinstance(right, tuple) else (right,), marks="*")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Add to the sandbox's rules: numbers and bytes have no methods that a template needs."""
        if isinstance(obj, int | float | bytes) and callable(value):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """Bound the widths of `str.format`, which the sandbox wraps."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text = str(value.__self__)

        def bounded(*args: Any, **kwargs: Any) -> str:
            given = [*args, *kwargs.values()]
            given += [item for one in args if isinstance(one, Mapping) for item in one.values()]
            require_narrow(text, given, marks="{")
            result: str = wrapped(*args, **kwargs)
            return result

        return bounded

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        for value in (*args, *kwargs.values()):
            __self.charge(value)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = require_method(owner, str(getattr(__obj, "__name__", "")), args)
        return super().call(__context, __obj, *args, **kwargs)


class _BoundedTemplate(Template):
    def render(self, *args: Any, **kwargs: Any) -> str:
        templates = self.environment
        assert isinstance(templates, TaskTemplates)
        templates.steps = 0
        try:
            return super().render(*args, **kwargs)
        except (RecursionError, OverflowError) as error:
            raise TemplateLimitError(f"a template makes too much: {type(error).__name__}") from None


class _Measuring(NodeTransformer):
    """Passes every value that a template makes or reads through the filter that measures it."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        super().generic_visit(node, *args, **kwargs)
        # The compiler takes these two apart itself.
        if isinstance(node, nodes.CallBlock):
            node.call = _taken_apart(node.call, nodes.Call)
        elif isinstance(node, nodes.FilterBlock):
            node.filter = _taken_apart(node.filter, nodes.Filter)
        left_alone = (nodes.Const, nodes.TemplateData, nodes.Slice, nodes.NSRef)
        if not isinstance(node, nodes.Expr) or isinstance(node, left_alone):
            return node
        if getattr(node, "ctx", "load") != "load":
            return node
        measured = nodes.Filter(node, _MEASURED, [], [], None, None, lineno=node.lineno)
        return measured.set_environment(node.environment) if node.environment is not None else measured


def _taken_apart(measured: nodes.Filter | nodes.Call, kind: type[_Node]) -> _Node:
    """Return the node that was passed through the filter that measures it."""
    inner = measured.node
    assert isinstance(inner, kind)
    return inner


@pass_context
def _measured(context: Context, value: Any) -> Any:
    templates = context.environment
    assert isinstance(templates, TaskTemplates)
    templates.charge(value)
    return value


def _bounded_concat(parts: Iterable[str]) -> str:
    """Join the parts of a text, as the environment does, up to the size that one may have."""
    kept, size = [], 0
    for part in parts:
        size += len(part)
        if size > MAX_SIZE:
            raise TemplateLimitError(f"a template writes more than {MAX_SIZE} characters")
        kept.append(part)
    return "".join(kept)


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """The harness's filter (`re.sub`), ended where a pattern tries endless ways to match."""
    require_size((len(string) + 1) * max(1, len(repl)) if count == 0 else count * len(repl))
    try:
        return str(regex.sub(pattern, repl, string, count=count, flags=regex.VERSION0, timeout=_REGEX_SECONDS))
    except TimeoutError:
        raise TemplateLimitError(
            f"the pattern {pattern!r:.60} takes more than {_REGEX_SECONDS:.0f} s of processor time"
        ) from None


@contextlib.contextmanager
def sandboxed_templates() -> Iterator[None]:
    """Have the harness render templates in the sandbox while the block runs. Imports the harness."""
    from lm_eval import utils as harness

    before = harness.env
    harness.env = TaskTemplates()
    try:
        yield
    finally:
        harness.env = before
