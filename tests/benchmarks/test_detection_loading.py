"""The benchmark of loading, on scenes and on a small VOC folder."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import detection_loading

XML = """<annotation><size><width>60</width><height>40</height></size><object><name>dot</name>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>31</ymax></bndbox></object></annotation>"""


@pytest.mark.slow
def test_loading_is_measured(tmp_path, capsys):
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "JPEGImages" / f"{number}.jpg")
        (tmp_path / "Annotations" / f"{number}.xml").write_text(XML)
    words = ["--data", str(tmp_path), "--size", "64", "--channels", "32", "--batch-size", "4", "--seconds", "1"]
    assert detection_loading.main([*words, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert all(row in said for row in ("one batch, ready", "from memory", "decoded here", "decoded by 1 workers"))
    assert detection_loading.main(["--data", str(tmp_path / "gone")]) == 2
    assert "there is no" in capsys.readouterr().err
