"""Log records beside a command's output: a line each, whatever the console is wide."""

import io
import logging

import pytest
from rich.console import Console

from workflows.terminal.console import log_handler


@pytest.fixture
def logger() -> logging.Logger:
    logger = logging.Logger("a run")
    logger.setLevel(logging.INFO)
    return logger


def test_in_a_pipe_a_record_is_one_line_without_padding(logger: logging.Logger) -> None:
    printed = io.StringIO()
    logger.addHandler(log_handler(Console(file=printed, width=10_000, soft_wrap=True)))
    logger.warning("stopping: %s", "batches under way are ended")
    logger.error("lost")
    lines = printed.getvalue().splitlines()
    assert [line.partition(" ")[2].partition(" ")[2] for line in lines] == [
        "WARNING stopping: batches under way are ended",
        "ERROR lost",
    ]


def test_on_a_terminal_a_record_is_wrapped_to_its_width(logger: logging.Logger) -> None:
    printed = io.StringIO()
    logger.addHandler(log_handler(Console(file=printed, width=60, force_terminal=True, color_system=None)))
    logger.warning("a record of more words than fit into one line of a terminal that is sixty columns wide")
    assert len(printed.getvalue().splitlines()) > 1
    assert all(len(line) <= 60 for line in printed.getvalue().splitlines())
