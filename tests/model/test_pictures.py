"""Pictures become what the published model was evaluated on; labels become its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gpupilot_agent.mobilenet import images
from gpupilot_agent.mobilenet.accuracy import from_file, measure, wilson
from gpupilot_agent.mobilenet.classes import class_of_wnid, labelled, thinned
from gpupilot_envs.errors import InputInvalid

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
TABBY, GOLDFISH, ABACUS = "n02123045", "n01443537", "n02666196"
CLASSES = {TABBY: 281, GOLDFISH: 1, ABACUS: 398}


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_a_plain_picture_is_its_normalised_colour() -> None:
    tensor = images.tensor(plain((255, 128, 0), (64, 64)))
    wanted = (np.array([1.0, 128 / 255, 0.0]) - images.MEAN) / images.STD
    assert tensor.shape == (3, 224, 224)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, np.broadcast_to(wanted[:, None, None], tensor.shape), 1e-5)


@pytest.mark.parametrize("size", [(512, 256), (256, 512)])
def test_the_middle_is_cut_out(size: tuple[int, int]) -> None:
    """The outer quarters of the long edge are green; what the model sees is all red."""
    picture = plain(GREEN, size)
    width, height = size
    inner = (width // 2 - 120, height // 2 - 120, width // 2 + 120, height // 2 + 120)
    picture.paste(RED, inner)
    tensor = images.tensor(picture)
    assert np.allclose(tensor[0], (1.0 - images.MEAN[0]) / images.STD[0], atol=1e-4)


def test_the_edges_follow_the_shortest() -> None:
    """A 300 by 100 picture becomes 768 by 256: a third of its width stays whole."""
    picture = plain(BLUE, (300, 100))
    picture.paste(RED, (0, 0, 150, 100))
    tensor = images.tensor(picture)
    redder = tensor[0].mean(axis=0) > tensor[2].mean(axis=0)
    assert abs(int(redder.sum()) - 112) <= 1


def test_grey_and_transparent_pictures_are_read(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P"):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (80, 60)).save(path)
        assert images.read(path).shape == (3, 224, 224)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputInvalid, match=r"broken\.jpg"):
        images.read(broken)


def test_the_classes_are_the_thousand_in_order() -> None:
    classes = class_of_wnid()
    assert len(classes) == 1000
    assert list(classes) == sorted(classes)
    assert {wnid: classes[wnid] for wnid in CLASSES} == CLASSES
    assert (classes["n01440764"], classes["n15075141"]) == (0, 999)


def test_every_class_of_tiny_imagenet_is_one_of_the_thousand() -> None:
    tiny = (Path(__file__).parent / "tiny_imagenet_wnids.txt").read_text("ascii").split()
    assert len(set(tiny)) == 200
    assert set(tiny) <= set(class_of_wnid())


@pytest.fixture
def colour_model(tmp_path: Path) -> Path:
    """Return a real network that answers tabby to red, goldfish to green, abacus to blue."""
    weight = np.zeros((1000, 3), dtype=np.float32)
    for channel, wnid in enumerate((TABBY, GOLDFISH, ABACUS)):
        weight[CLASSES[wnid], channel] = 10.0
        weight[CLASSES[wnid] + 100, channel] = 5.0
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1000])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "colours.onnx"
    onnx.save(model, path)
    return path


def test_accuracy_of_a_folder_by_class(tmp_path: Path, colour_model: Path) -> None:
    """Four right of five; a stranger's label and a damaged file are told and not scored."""
    shown = {TABBY: [RED, RED], GOLDFISH: [GREEN, RED], ABACUS: [BLUE], "n99999999": [RED]}
    for wnid, colours in shown.items():
        folder = tmp_path / "set" / wnid / "images"
        folder.mkdir(parents=True)
        for index, colour in enumerate(colours):
            plain(colour).save(folder / f"{wnid}_{index}.png")
    (tmp_path / "set" / ABACUS / "images" / "torn.JPEG").write_bytes(b"\xff\xd8")
    result = measure(labelled(tmp_path / "set"), from_file(colour_model), batch=4)
    assert (result.pictures, result.classes) == (5, 3)
    assert (result.unknown, result.unreadable) == (1, 1)
    assert result.top1 == pytest.approx(0.8)
    assert result.top1_of_present == pytest.approx(0.8)
    assert result.top1_interval[0] < 0.8 < result.top1_interval[1]


def test_accuracy_among_the_classes_present(tmp_path: Path, colour_model: Path) -> None:
    """Red pictures of the class the model ranks second: wrong of 1000, right of those present."""
    wnids = list(class_of_wnid())
    for wnid, colour in ((wnids[CLASSES[TABBY] + 100], RED), (GOLDFISH, GREEN)):
        folder = tmp_path / "set" / wnid
        folder.mkdir(parents=True)
        plain(colour).save(folder / "one.jpg", quality=95)
    result = measure(labelled(tmp_path / "set"), from_file(colour_model), batch=8)
    assert (result.top1, result.top5, result.top1_of_present) == (0.5, 1.0, 1.0)


def test_tiny_imagenet_validation_layout(tmp_path: Path, colour_model: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for index, (wnid, colour) in enumerate([(TABBY, RED), (GOLDFISH, GREEN), (ABACUS, RED)]):
        plain(colour).save(tmp_path / "images" / f"val_{index}.JPEG", quality=95)
        rows.append(f"val_{index}.JPEG\t{wnid}\t0\t0\t62\t62")
    (tmp_path / "val_annotations.txt").write_text("\n".join(rows), encoding="utf-8")
    found = labelled(tmp_path)
    assert [truth for _, truth in found.pictures] == [281, 1, 398]
    assert measure(found, from_file(colour_model), batch=2).top1 == pytest.approx(2 / 3)
    assert len(thinned(found, 2).pictures) == 2
    assert thinned(found, 9) == found


@pytest.mark.parametrize("made", ["nothing", "strangers"])
def test_a_folder_without_known_labels_is_refused(tmp_path: Path, made: str) -> None:
    if made == "strangers":
        (tmp_path / "cats").mkdir()
        plain(RED).save(tmp_path / "cats" / "one.png")
    with pytest.raises(InputInvalid, match="WordNet id"):
        labelled(tmp_path)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (680, 1000)])
def test_the_interval_holds_the_share(hits: int, trials: int) -> None:
    low, high = wilson(hits, trials)
    assert 0.0 <= low <= hits / trials <= high <= 1.0
    assert high - low < 0.35
