"""The drawings of the pages on how it works: what is committed is what the scripts draw."""

import re
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks.pictures import COLOURS, TEXT
from docs.drawings import __main__ as drawings
from fastmlp.kernels import _sync
from tests.processes import ROOT

every_drawing = pytest.mark.parametrize("name", drawings.DRAWINGS)


def path_of(name):
    return ROOT / "docs" / "images" / f"{name}.svg"


@every_drawing
def test_the_committed_drawing_is_the_scripts(name):
    assert path_of(name).read_text(encoding="utf-8") == str(drawings.DRAWINGS[name].draw())


@every_drawing
def test_a_drawing_is_text_in_known_colours_on_no_ground(name):
    root = ET.fromstring(path_of(name).read_text(encoding="utf-8"))
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds == {"svg", "title", "defs", "marker", "path", "rect", "line", "text"}
    width, height = map(float, (root.get("width"), root.get("height")))
    for element in root.iter():
        for name in ("fill", "stroke"):
            assert element.get(name) in (None, TEXT, *COLOURS)
        if element.tag.endswith("rect"):
            assert 0 <= float(element.get("x")) <= width - float(element.get("width"))
            assert 0 <= float(element.get("y")) <= height - float(element.get("height"))
            assert float(element.get("fill-opacity")) <= 0.4


def test_the_table_of_barriers_is_the_record():
    page = drawings.PAGE.read_text(encoding="utf-8")
    inside = re.search(r"<!-- costs:begin -->\n(.*?)\n<!-- costs:end -->", page, re.DOTALL)[1]
    assert inside == drawings.costs()


def test_what_the_page_says_of_waiting():
    """How often a thread looks before it yields, and yields before it sleeps; and for how long."""
    page = " ".join(drawings.PAGE.read_text(encoding="utf-8").split())
    assert f"After {_sync._LOOKS:,} looks it lets others" in page
    assert f"after {_sync._YIELDS} of these it sleeps for {_sync._SLEEP_MICROSECONDS} µs" in page


def test_lines_cost_more_than_barriers():
    """In every row of the table, as the page says."""
    for row in drawings.costs().splitlines()[2:7]:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert 1000 * float(cells[4]) > 10 * float(cells[3])


def test_every_drawing_is_shown():
    pages = "".join(p.read_text(encoding="utf-8") for p in drawings.PAGE.parent.glob("*.md"))
    shown = re.findall(r"!\[[^\]]+\]\(\.\./images/(\w+)\.svg\)", pages)
    assert sorted(shown) == sorted(drawings.DRAWINGS)
