"""What a batch, a pass of targets and a score may ask of a device: kernels, waits of the host, bytes across.

The numbers are those of the code as it is, on a model of four layers. A copy or a wait that comes into a loop exceeds
them; whoever brings one in on purpose raises the number here and says why.
"""

import pytest
from ghost_table import counted_batch, counted_targets

# Kernels, waits, bytes to the host and bytes to the device of the second batch: two requests, nine forwards of targets.
# Of the kernels of a method with targets 300 to 700 pack tokens, and 1,200 bytes say where those are.
# A closed form's solve reads its three figures back, 24 bytes per site, after the eigenvalues of an n x n matrix.
BATCH = {
    "memit": (3_600, 19, 136, 9_200),
    "memit_seq": (3_650, 23, 136, 9_200),
    "emmet": (3_400, 15, 112, 9_200),
    "encore": (3_750, 23, 136, 9_200),
    "alphaedit": (3_700, 23, 136, 9_200),
    "alphaedit+sphere": (3_800, 31, 136, 9_200),
    "alphaedit+revive": (3_700, 23, 136, 9_200),
    "memit+rect": (3_800, 23, 136, 11_100),
    "memit+prune": (3_600, 24, 136, 9_200),
    "evoedit": (3_650, 25, 136, 9_200),
    "lyaplock": (3_650, 23, 136, 9_200),
    "nse": (4_550, 57, 216, 16_900),
    "rome": (6_700, 20, 88, 8_500),
    "r_rome": (6_700, 20, 88, 8_500),
    "ft": (1_450, 13, 0, 2_700),
    "ft_l": (1_450, 13, 0, 2_700),
    "crispedit": (1_850, 20, 0, 3_300),
    "eblora": (2_150, 38, 0, 3_300),
    "lora": (1_600, 14, 0, 3_300),
    "ultraedit": (500, 8, 0, 700),
    "alphaedit+simie": (7_650, 58, 184, 8_800),
    "alphaedit+nas+gate": (4_300, 31, 136, 13_600),
    "memit_seq+sphere+error_feedback": (3_900, 33, 136, 11_100),
}


@pytest.mark.parametrize("method", BATCH)
def test_a_batch_stays_within_its_budget(method: str) -> None:
    counts = counted_batch(method)
    kernels, waits, to_host, to_device = BATCH[method]
    assert counts.kernels <= kernels, counts.by_kernel.most_common(9)
    assert counts.waits <= waits, counts.waits_at.most_common()
    assert counts.to_host <= to_host, counts.bytes_at.most_common()
    assert counts.to_device <= to_device, counts.bytes_at.most_common()


def test_a_step_of_targets_waits_for_nothing_and_its_kernels_do_not_grow_with_the_batch() -> None:
    few, more = counted_targets(4, 9, 2), counted_targets(4, 17, 2)
    # Two looks in eight steps at who is done.
    assert more[1] - few[1] == 2
    assert more[2] == few[2]
    assert counted_targets(4, 9, 5)[0] == few[0]
    # A step of one more layer, and what a step costs whatever the layers.
    thin, thick = counted_targets(4, 17, 2)[0] - few[0], counted_targets(5, 17, 2)[0] - counted_targets(5, 9, 2)[0]
    # 18 of a layer pack tokens and put them back into rows for attention, so that a third of them is not computed.
    assert (thick - thin) / 8 <= 117
    assert thin / 8 - 3 * (thick - thin) / 8 <= 110
    # Llama-3-8B, layer 8 of 32, 25 forwards of a batch of 100 in one pass.
    layer = (thick - thin) / 8
    assert 25 * (23 * layer + thin / 8 - 3 * layer) < 80_000
