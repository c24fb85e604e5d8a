"""Pictures of records: on no background, in colours that can be read on white and on dark."""

import pytest

from benchmarks.pictures import COLOURS, TEXT, picture
from tests.pictures import GROUNDS, assert_readable, contrast
from tests.processes import ROOT

KEPT = [
    *sorted(ROOT.glob("benchmarks/results/**/*.svg")),
    *(ROOT / "docs" / "images" / f"{name}.svg" for name in ("cores", "ranks", "ten-steps")),
]


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@pytest.mark.parametrize("colour", [TEXT, *COLOURS])
def test_every_colour_can_be_read_on_white_and_on_dark(colour, ground):
    """A contrast of 3, which WCAG 2.2 asks of graphics and of large text."""
    assert contrast(colour, ground) >= 3


def test_the_contrast_of_known_colours():
    """WCAG 2.2's own: 21 is the most; #767676 is the lightest grey with 4.5 on white."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_kept_picture_can_be_read_on_any_ground(path):
    assert_readable(path.read_text(encoding="utf-8"))


def test_no_picture_of_a_record_has_a_ground_of_its_own():
    assert len(KEPT) == 8
    assert not list(ROOT.glob("benchmarks/results/**/*.png"))


def drawn(path):
    with picture(path, 3, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], color=COLOURS[0], label="one")
        axes.set(xlabel="x", title="Title")
        axes.legend()
    return path.read_text(encoding="utf-8")


def test_the_same_drawing_is_the_same_file(tmp_path):
    first = drawn(tmp_path / "one.svg")
    assert first == drawn(tmp_path / "two.svg")
    assert_readable(first)


def test_what_is_drawn_elsewhere_keeps_its_style(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawn(tmp_path / "one.svg")
    assert dict(matplotlib.rcParams) == before
