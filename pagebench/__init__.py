"""pagebench: what compound_head() costs, measured.

The package itself imports nothing, so that ``import pagebench`` and the build
stay light; start reading at :mod:`pagebench.plan`.
"""

__version__ = "0.1.0"
