"""Attention of the first papers."""

from ..case import Case

MODULES = "Jongchan/attention-module"

CASES = [
    Case(
        "eca", "BangguWu/ECANet", "models/eca_module.py", lambda code: code.eca_layer(64, k_size=3), {"kernel_size": 3}
    ),
    Case("cbam", MODULES, "MODELS/cbam.py", lambda code: code.CBAM(64)),
    Case("cam", MODULES, "MODELS/cbam.py", lambda code: code.ChannelGate(64)),
    Case("sam", MODULES, "MODELS/cbam.py", lambda code: code.SpatialGate()),
    Case(
        "bam",
        MODULES,
        "MODELS/bam.py",
        lambda code: code.BAM(64),
        size=(12, 12),
        edits={"self.gate_activation = gate_activation": "pass"},  # a name that is not defined
    ),
]
