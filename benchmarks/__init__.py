"""Speed of whatwhere beside its peers, in one process, in turn, as medians.

    python -m benchmarks.layer      one attention layer on the maps of ResNet-50: time, and bytes kept for the backward
    python -m benchmarks.network    whole networks: inference and a training step
    python -m benchmarks.growth     how time grows with batch, channels and positions
    python -m benchmarks.start      no speed: what insertion does to a trained network's answers on real images
    python -m benchmarks.families   no speed: attention in a network of every family, the table of docs/families.md

Run them from the root of the repository, on a machine that does nothing else; ``--help`` tells the rest, ``--quick``
tries them out.
"""
