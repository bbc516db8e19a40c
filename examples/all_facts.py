"""Write an edit record for every fact of the fact world's editable subjects, 1,400, for `examples/memories.yaml`.

python examples/all_facts.py runs/all_facts.json
python examples/all_facts.py runs/other_facts.json 1       the facts of other people: the world of seed 1
"""

import json
import sys
from pathlib import Path

from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.datasets.factworld.world import build_world

path = Path(sys.argv[1])
world = shipped_world() if len(sys.argv) < 3 else build_world(int(sys.argv[2]))
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(edit_records(world, every_fact=True)), encoding="utf-8")
