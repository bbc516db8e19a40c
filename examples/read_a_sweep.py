"""Open a sweep directory and read its rows, table, states and forgetting curves as Arrow tables and data frames.

The sweep may still be running. Usage: python examples/read_a_sweep.py [runs/quickstart]
"""

# %% A sweep directory or URL: `make quickstart` makes this one
import sys

import workflows.api as sphere

sweep = sphere.open_sweep(root=sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart")

# %% One row per trajectory: state, edits, rate
print(sweep.status().to_pandas()[["method", "seed", "state", "edits", "of"]])

# %% Every score in long format: here the mean efficacy of each method after each checkpoint
rows = sweep.rows().to_pandas()
efficacy = rows[(rows.metric == "efficacy") & (rows.protocol == "argmax") & rows.trajectory_id.notna()]
print(efficacy.pivot_table(index="edits", columns="method", values="value"))

# %% What `sphere table` prints, as numbers: mean, spread and count of every metric, one row per method
table = sweep.table().to_pandas().set_index("method")
print(table[["efficacy (argmax) mean", "efficacy (argmax) sd", "seeds"]])

# %% Forgetting: the share of the edits so far that each checkpoint still answers
curve = sweep.retention(table="curve", role="rewrite", protocol="correct", measure="argmax").to_pandas()
print(curve.pivot_table(index="edits", columns="method", values="rate"))
