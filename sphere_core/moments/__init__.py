"""Second moments C0 = E[k k^T] of a site's inputs over a corpus: building, storing, importing, comparing them, and
their null space.

Symbols: k `[d]` the input of a site at one token, N tokens in all, C0 `[d, d]` = (1/N) sum k k^T, uncentred.
"""
