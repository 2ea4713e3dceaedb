"""Small data sets in the layouts of Pascal VOC, COCO and YOLO, written by the tests themselves."""

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from whatwhere.data import DetectionDataConfig, DetectionDataset, DetectionSplits, open_detection

WIDTH, HEIGHT = 60, 40
GOOD = ("cat", (5, 5, 25, 30))
MODES = {"now": 4.0, "later": 0.0}
"""memory_gb for decoding at once, and on demand."""

Box = tuple[float, ...]


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, **options)
    return path


def voc_object(label: str, box: Box, extra: str = "") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{label}</name>{extra}<bndbox>{corners}</bndbox></object>"


def write_voc(
    root: Path, name: str, objects: str | Iterable[tuple[str, Box]], size: str | None = None, image: bool = True
) -> Path:
    """Write one image and its XML file; ``objects`` may be XML as it stands."""
    text = objects if isinstance(objects, str) else "".join(voc_object(*one) for one in objects)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>" if size is None else size
    file = root / "Annotations" / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation><filename>{name}.jpg</filename>{size}{text}</annotation>", encoding="utf-8")
    if image:
        write_image(root / "JPEGImages" / f"{name}.jpg", seed=len(name))
    return file


def write_lists(root: Path, **lists: Sequence[str]) -> None:
    for name, stems in lists.items():
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def coco_content(
    images: Sequence[dict[str, Any]] | None = None, annotations: Sequence[Any] = (), categories: Any = None
) -> dict[str, Any]:
    images = [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}] if images is None else images
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}] if categories is None else categories
    return {"images": list(images), "annotations": list(annotations), "categories": categories}


def note(number: int = 1, image: Any = 1, category: Any = 3, bbox: Any = (4, 4, 20, 25), **more: Any) -> dict[str, Any]:
    bbox = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def write_coco(root: Path, train: Any, test: Any = None) -> Path:
    """Write train2017 and val2017 with images for every entry; return the file of the training part."""
    test = coco_content(annotations=[note()]) if test is None else test
    files = []
    for part, content in (("train", train), ("val", test)):
        file = root / "annotations" / f"instances_{part}2017.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        files.append(file)
        for entry in [] if isinstance(content, str) else content["images"]:
            if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
                write_image(root / f"{part}2017" / entry["file_name"])
    return files[0]


def write_yolo(root: Path, train: dict[str, str | None], val: dict[str, str | None] | None = None) -> Path:
    """Write images and their label files, by name (None: no file), and a data.yaml; return the folder."""
    for part, files in (("train", train), ("val", {"v": "0 0.5 0.5 0.4 0.4\n"} if val is None else val)):
        for name, text in files.items():
            write_image(root / "images" / part / f"{name}.jpg", seed=len(name))
            labels = root / "labels" / part / f"{name}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                labels.write_text(text)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return root


def opened(*data: Path | str, quiet: bool = True, **options: Any) -> DetectionSplits:
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        return open_detection(DetectionDataConfig(tuple(map(str, data)), **options), progress=False)


def pass_over(dataset: DetectionDataset) -> list[int]:
    """Fetch every image; check what a batch promises; return the indices of those that came."""
    came: list[int] = []
    for start in range(0, len(dataset), 2):
        batch = dataset.__getitems__(list(range(start, min(start + 2, len(dataset)))))
        came += batch["index"].tolist()
        for image, boxes, labels in zip(batch["images"], batch["boxes"], batch["labels"], strict=True):
            assert max(image.shape[1:]) == dataset.size
            assert boxes.shape == (len(labels), 4)
            limit = boxes.new_tensor([image.shape[2], image.shape[1]] * 2)
            assert bool((boxes >= 0).all() and (boxes <= limit + 1e-3).all())
            assert bool((boxes[:, 2:] > boxes[:, :2]).all())
            assert bool(((labels >= 0) & (labels < len(dataset.classes))).all())
    return came


def problem(dataset: DetectionDataset, file: Path | str, what: str) -> str:
    """Return the reason of the one problem with this file and object."""
    found = [one.reason for one in dataset.problems if one.path == str(file) and one.object == what]
    assert len(found) == 1, [str(one) for one in dataset.problems]
    return found[0]
