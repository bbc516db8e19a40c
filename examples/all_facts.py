"""Write an edit record for every fact of the fact world's editable subjects, 1,400, for `examples/memories.yaml`.

python examples/all_facts.py runs/all_facts.json
"""

import json
import sys
from pathlib import Path

from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world

path = Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(edit_records(shipped_world(), every_fact=True)), encoding="utf-8")
