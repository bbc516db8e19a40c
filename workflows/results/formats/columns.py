"""Which columns of general ability and retention leave a narrow terminal first."""

from workflows.terminal.table import Column

__all__ = ["ABILITY_COLUMNS", "EDIT_COLUMNS", "RETENTION_COLUMNS"]


def _numbers(**priorities: int) -> dict[str, Column]:
    return {name: Column(name, priority, right=True) for name, priority in priorities.items()}


_PLACES = {
    "model": Column("model", shared=True),
    "stream": Column("stream", shared=True, prose=True),
    "dataset": Column("dataset", shared=True),
    "stream_order": Column("stream_order", shared=True),
}
ABILITY_COLUMNS = {
    **_PLACES,
    "seed": Column("seed", 1, right=True, shared=True),
    "edits": Column("edits", right=True),
    "metric": Column("metric", 8, shared=True),
    "n": Column("n", 9, right=True, shared=True),
    "status": Column("status", 2, shared=True),
    "nonfinite": Column("nonfinite", 12, right=True, shared=True),
    "tied": Column("tied", 13, right=True, shared=True),
    **_numbers(low=6, high=6, change_low=5, change_high=5, p=4, empty=11),
    "top answer": Column("top answer", 10, right=True),
}
RETENTION_COLUMNS = {
    **_PLACES,
    "seeds": Column("seeds", 8, right=True, shared=True),
    "collapsed": Column("collapsed", 7, right=True, shared=True),
    "n": Column("n", 6, right=True, shared=True),
    "finite": Column("finite", 7, shared=True),
    "case_id": Column("case_id", 6),
    "tuning": Column("tuning", shared=True),
    **_numbers(right_before=3, right_after=3),
    "installed_at": Column("installed_at", 9, right=True),
    **_numbers(low=4, high=4, final_sd=5, auc_sd=5, sd_over_seeds=5, monotone=3, margin=5, final_margin=5),
    **_numbers(strength=2, last_right=3, first_lost=1, written=4),
}
EDIT_COLUMNS = {
    **_PLACES,
    "seed": Column("seed", 1, right=True, shared=True),
    "case_id": Column("case_id", 5, shared=True),
    "prompt": Column("prompt", shared=True, prose=True),
    "target": Column("target", shared=True),
    "contrast": Column("contrast", 4, shared=True),
    **_numbers(written=6, contrast_probability=3, learned=2, trajectories=3),
}
