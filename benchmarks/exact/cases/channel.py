"""Channel attention of the first papers."""

from ..case import Case

CASES = [
    Case(
        "eca", "BangguWu/ECANet", "models/eca_module.py", lambda code: code.eca_layer(64, k_size=3), {"kernel_size": 3}
    ),
]
