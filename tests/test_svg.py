"""Pictures as SVG: laid out to the tenth of a px, then written without ids."""

import math
import re
import string
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from pdlkit.drawing.scales import extent
from pdlkit.drawing.svg import lay_out, lower
from pdlkit.drawing.svg.letters import shorten, width, wrap
from pdlkit.drawing.svg.ticks import ticks, written
from pdlkit.pictures import Axis, Bar, Cell, Line, Panel, Picture, Span, Table

SECONDS, BYTES, STEP = Axis("time", "s"), Axis("", "B"), Axis("step")
NASTY = "<b> & \"quotes\" 'and' ]]> \x00\x1b[1m \ud800 \uffff ü"
SVG = "{http://www.w3.org/2000/svg}"


def lines_of(count: int, points: int = 50, **axes: Axis) -> Panel:
    x = np.arange(points)
    lines = [
        Line(f"device {i}", x, 2.0 * 0.95**x + 0.01 * i + 0.3, "devices") for i in range(count)
    ]
    whole = Line("all devices", x, 2.0 * 0.95**x + 0.3)
    return Panel("loss", "measured", (*lines, whole), **{"x": STEP, "y": Axis("loss"), **axes})


def panel(*marks, word: str = "measured", **axes) -> Panel:
    return Panel("a panel", word, marks, **axes)


def one(*marks, **axes) -> Picture:
    return Picture("One step", (panel(*marks, **axes),))


BARS = panel(
    *(Bar("data=8", 2.0, "compute"), Bar("data=8", 1.0, "wait"), Bar("seq=8", 2.5, "compute")),
    x=SECONDS,
)
SPANS = panel(
    Span("device 0", 0.0, 0.004, "first", "forward"),
    Span("device 1", 0.002, 0.006, "second", "backward"),
    x=SECONDS,
)
CELLS = panel(
    *(Cell(0, 0, "embed", rows=2, kind="a"), Cell(0, 1, "heads"), Cell(1, 1, "feed\nforward")),
    x=Axis("model", names=("0", "1")),
    y=Axis("data", names=("left", "right")),
)
TABLE = panel(
    Table((Axis("collective"), Axis("sends", "B")), (("all_reduce", 37500), ("copy", 12)))
)
EACH_KIND = {
    "lines": Picture("Lines", (lines_of(3),)),
    "bars": Picture("Bars", (BARS,)),
    "spans": Picture("Spans", (SPANS,)),
    "cells": Picture("Cells", (CELLS,)),
    "table": Picture("Table", (TABLE,)),
    "empty": Picture("Empty", (panel(),)),
    "crowd": Picture("Crowd", (lines_of(64),)),
    "board": Picture(
        "Board", (lines_of(8), BARS, SPANS, CELLS, TABLE, lines_of(64), panel()), columns=2
    ),
}
every_kind = pytest.mark.parametrize("picture", EACH_KIND.values(), ids=EACH_KIND.keys())


def parsed(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(lower(picture))


def texts(picture: Picture) -> list[ElementTree.Element]:
    return list(parsed(picture).iter(f"{SVG}text"))


def said(picture: Picture) -> list[str]:
    return [(text.text or "") for text in texts(picture)]


def paths(picture: Picture) -> dict[str, list[list[tuple[float, float]]]]:
    """Return the drawn curves, label -> stretches, as a reader of the file finds them."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for path in parsed(picture).iter(f"{SVG}path"):
        title = path.find(f"{SVG}title")
        if title is None or path.get("stroke-linecap"):
            continue
        stretches = re.findall(r"M([^M]+)", path.get("d", ""))
        found[title.text or ""] = [
            [tuple(map(float, pair.split())) for pair in stretch.partition("h")[0].split("L")]
            for stretch in stretches
        ]
    return found


def values(points, frame) -> np.ndarray:
    """Return what points in px stand for, by nothing but the scales of their frame."""
    x, y = np.array(points, float).T
    along = (x - frame.left) / frame.width
    up = (frame.top + frame.height - y) / frame.height
    back = []
    for part, scale in ((along, frame.x), (up, frame.y)):
        if scale.log:
            back.append(scale.low * (scale.high / scale.low) ** part)
        else:
            back.append(scale.low + part * (scale.high - scale.low))
    return np.stack(back, axis=1)


def assert_drawn(picture: Picture, which: int = 0) -> None:
    """Check each curve of a panel against its data, to the 0.05 px that are rounded."""
    frame, drawn = lay_out(picture).frames[which], paths(picture)
    for line in picture.panels[which].marks:
        points = [point for stretch in drawn[line.label] for point in stretch]
        for axis, scale, px in ((0, frame.x, frame.width), (1, frame.y, frame.height)):
            back = values(points, frame)[:, axis]
            data = np.asarray((line.x, line.y)[axis], float)
            if scale.log:
                apart, span = np.log(back / data), math.log(scale.high / scale.low)
            else:
                apart, span = back - data, scale.high - scale.low
            assert np.abs(apart).max() <= 0.06 / px * span


class TestDocuments:
    @every_kind
    def test_well_formed(self, picture):
        """Every picture is one SVG element that any XML reader reads."""
        root = parsed(picture)
        assert root.tag == f"{SVG}svg"
        assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
        assert root.get("width") == "960"

    @every_kind
    def test_deterministic(self, picture):
        """The same picture is the same bytes, as a document and as a scene."""
        assert lower(picture) == lower(picture) == picture.svg
        assert lay_out(picture).markup == lay_out(picture).markup

    @every_kind
    def test_a_screen_reader_has_all(self, picture):
        """The document is an image named by its alt text; its figures are the description."""
        root = parsed(picture)
        assert root.get("role") == "img"
        assert root.get("aria-label") == root.find(f"{SVG}title").text == repr(picture)
        assert root.find(f"{SVG}desc").text == picture.text

    @every_kind
    def test_nothing_is_shared_between_documents(self, picture):
        """There are no ids and nothing that needs one: two pictures in a page stay apart."""
        svg = lower(picture)
        assert not re.search(r"<defs|\bid=|url\(|<use|<style|<pattern|Gradient|<marker", svg)

    @every_kind
    def test_letters_have_the_colour_of_the_page(self, picture):
        """Letters are currentColor, so they are seen in a light and in a dark notebook."""
        for element in parsed(picture).iter():
            if element.find(f"{SVG}text") is not None or element.tag == f"{SVG}text":
                assert element.get("fill", "currentColor") == "currentColor"
                assert element.get("stroke") is None
        assert "color:var(--jp-ui-font-color1" in lower(picture)

    @every_kind
    def test_the_word_is_there(self, picture):
        """How each panel is known stands beside its title."""
        assert said(picture).count("measured") == len(picture.panels)

    def test_a_line_known_otherwise_says_so(self):
        """The name of a line that is modelled in a measured panel says so."""
        picture = one(Line("seen", (1, 2), (1, 2)), Line("ideal", (1, 2), (1, 3), word="modelled"))
        assert "ideal (modelled)" in said(picture)
        assert "measured and modelled" in said(picture)

    @pytest.mark.parametrize(
        "marks",
        [
            (Line(NASTY, (1, 2), (1, 2)),),
            (Bar(NASTY, 1, NASTY),),
            (Span(NASTY, 0, 1, NASTY, NASTY),),
            (Cell(0, 0, NASTY),),
            (Table((Axis(NASTY),), ((NASTY,),)),),
        ],
    )
    def test_text_is_escaped(self, marks):
        """No letter breaks the file: those XML has no place for are replaced."""
        x = Axis(NASTY, NASTY, names=(NASTY,))
        picture = Picture(NASTY, (Panel(NASTY, "counted", marks, x=x, y=x, note=NASTY),), alt=NASTY)
        root = parsed(picture)
        assert "<b> & \"quotes\" 'and' ]]> \ufffd" in " ".join(root.itertext())
        assert root.get("aria-label").startswith("<counted: <b> & \"quotes\" 'and' ]]> \ufffd")
        picture.svg.encode()


class TestCurves:
    @pytest.mark.parametrize("x", [STEP, Axis("step", log=True)])
    @pytest.mark.parametrize("y", [Axis("loss"), Axis("loss", log=True)])
    def test_every_number_is_where_it_should_be(self, x, y):
        """Read back through the scales of its frame, a curve is its data."""
        steps = np.geomspace(3, 3000, 40)
        lines = [Line(f"line {i}", steps, np.cos(steps / 99) + 1.5 + i) for i in range(3)]
        assert_drawn(one(*lines, x=x, y=y))

    def test_every_panel_has_its_own_scales(self):
        """Curves of several panels, in rows and columns, each stand in their own frame."""
        panels = [panel(Line(f"line {i}", (0, 1, 5 + i), (i, 3, -i)), x=STEP) for i in range(5)]
        picture = Picture("Five", (*panels[:3], panel(), *panels[3:]), columns=2)
        scene = lay_out(picture)
        assert [curve.panel for curve in scene.curves] == [0, 1, 2, 3, 4]
        for i, which in enumerate((0, 1, 2, 4, 5)):
            line = picture.panels[which].marks[0]
            back = values(scene.curves[i].points, scene.frames[i])
            np.testing.assert_allclose(back, np.transpose((line.x, line.y)), atol=1e-4)

    def test_lists_ranges_and_arrays_are_drawn_alike(self):
        """It does not matter in what a line keeps its numbers, nor how many it has."""
        kinds = (list, tuple, np.array, lambda each: np.array(each, np.float32))
        drawn = {
            lower(one(Line("a", range(9), kind(range(9))), Line("b", kind([3, 4]), (1, 2))))
            for kind in kinds
        }
        assert len(drawn) == 1

    def test_a_gap_is_a_gap(self):
        """What is not finite, or not positive on a log axis, parts a curve."""
        nan, inf = math.nan, math.inf
        line = Line("loss", range(1, 9), (1.0, 2.0, nan, 4.0, 5.0, inf, -1.0, 8.0))
        (stretches,) = paths(one(line, y=Axis("loss", log=True))).values()
        assert [len(stretch) for stretch in stretches] == [2, 2, 1]
        frame = lay_out(one(line, y=Axis("loss", log=True))).frames[0]
        back = [values(stretch, frame)[:, 1] for stretch in stretches]
        np.testing.assert_allclose(np.concatenate(back), [1, 2, 4, 5, 8], rtol=0.01)

    def test_a_gap_in_a_scene_is_nan(self):
        """A curve of a scene has a point for each of its line's, NaN where there is none."""
        line = Line("loss", (0, 1, math.inf, 3), (1.0, math.nan, 2.0, 3.0))
        (curve,) = lay_out(one(line)).curves
        assert curve.points.dtype == np.float32
        assert np.isnan(curve.points).all(axis=1).tolist() == [False, True, True, False]

    def test_nothing_finite(self):
        """A line of NaN alone is a curve without a stretch, and its panel still has axes."""
        picture = one(Line("nan", range(20), [math.nan] * 20), x=STEP)
        (curve,) = lay_out(picture).curves
        assert np.isnan(curve.points).all()
        assert paths(picture) == {}
        assert "step" in said(picture)

    def test_a_constant_lies_in_the_middle(self):
        """A line of one value has room above and below, however large the value."""
        for value in (0.0, 2.5, -3e17, 1e-30):
            scene = lay_out(one(Line("flat", range(20), [value] * 20)))
            (frame,) = scene.frames
            middle = frame.top + frame.height / 2
            np.testing.assert_allclose(scene.curves[0].points[:, 1], middle, atol=0.1)

    @pytest.mark.parametrize("log", [False, True])
    def test_no_number_is_too_large_or_too_small(self, log):
        """Values next to each other, or at the ends of what a float holds, are drawn."""
        for ends in ((1e16, 1e16 + 2), (1e-300, 2e-300), (1e-300, 1e300), (-1e300, 1e300)):
            picture = one(Line("a", ends, ends), x=Axis(log=log), y=Axis("", "B", log=log))
            assert np.isfinite(lay_out(picture).curves[0].points[-1]).all()

    def test_few_points_are_dots(self):
        """Up to twelve points are each a dot, so that one point alone is seen."""
        for count, dots in ((1, 1), (12, 12), (13, 0)):
            picture = one(Line("loss", range(count), range(count)))
            round_ = [
                path.get("d", "")
                for path in parsed(picture).iter(f"{SVG}path")
                if path.get("stroke-linecap") == "round"
            ]
            assert "".join(round_).count("h0") == dots
            assert (lay_out(picture).curves[0].dot > 0) == (dots > 0)

    def test_a_point_between_gaps_is_seen(self):
        """A point alone in a long line has no line to lie on, and becomes a short dash."""
        line = Line("loss", range(20), [math.nan] * 7 + [2.0] + [math.nan] * 12)
        assert re.search(r'd="M[\d.]+ [\d.]+h2"', lower(one(line)))

    def test_no_point_at_all(self):
        """A line that has no point yet is no error: a live picture begins so."""
        picture = one(Line("a", (), ()), Line("b", [], []), x=STEP)
        assert paths(picture) == {}
        assert len(lay_out(picture).curves) == 2

    def test_x_and_y_are_pairs(self):
        """A line with more x than y is refused, and the error says which."""
        with pytest.raises(ValueError, match="line 'loss' has 3 x and 2 y") as error:
            lay_out(one(Line("loss", (1, 2, 3), (1, 2))))
        assert "try: Line('loss', x[:2], y[:2])" in str(error.value)

    def test_the_whole_is_ink(self):
        """Beside a group, the line for the whole lies on top, in the colour of letters."""
        curves = lay_out(EACH_KIND["lines"]).curves
        assert [curve.label for curve in curves] == [
            *(f"device {i}" for i in range(3)),
            "all devices",
        ]
        assert curves[-1].colour == "currentColor"
        assert curves[-1].width > curves[0].width
        assert len({(curve.colour, curve.dash) for curve in curves}) == 4


class TestNames:
    @pytest.mark.parametrize("count", [2, 8, 10])
    @pytest.mark.parametrize("columns", [1, 2])
    def test_names_do_not_overlap(self, count, columns):
        """Names beside curves that all end alike stand one under another."""
        lines = [Line(f"name {i}", range(9), [1.0] * 9, "group") for i in range(count)]
        picture = Picture("Alike", (panel(*lines),) * columns, columns=columns)
        names = [text for text in texts(picture) if (text.text or "").startswith("name")]
        assert len(names) == count * columns
        for left in {text.get("x") for text in names}:
            heights = sorted(float(text.get("y")) for text in names if text.get("x") == left)
            assert min(b - a for a, b in pairwise(heights)) >= 14.9
            frame = lay_out(picture).frames[0]
            assert frame.top - 1 <= heights[0]
            assert heights[-1] <= frame.top + frame.height + 1

    def test_a_name_says_which_curve_it_is_of(self):
        """Each name carries the label of its curve, so a live picture can hide the curve."""
        groups = [group for group in parsed(EACH_KIND["crowd"]).iter() if group.get("data-label")]
        named = {group.get("data-label"): group.findtext(f"{SVG}text") for group in groups}
        assert named == {
            "device 0": "device 0, lowest of 64",
            "device 63": "device 63, highest of 64",
            "all devices": "all devices",
        }

    def test_many_names_make_a_panel_higher(self):
        """Lines of no group are all named, so forty of them need a higher panel."""
        picture = one(*(Line(f"name {i}", range(9), [1.0] * 9) for i in range(40)))
        heights = sorted(
            float(text.get("y")) for text in texts(picture) if (text.text or "").startswith("name")
        )
        assert min(b - a for a, b in pairwise(heights)) >= 14.9
        (frame,) = lay_out(picture).frames
        assert frame.top - 1 <= heights[0]
        assert heights[-1] <= frame.top + frame.height + 1

    def test_a_crowd_of_64(self):
        """Of 64 devices all are drawn, faintly, and the two extremes are named."""
        picture = EACH_KIND["crowd"]
        curves = lay_out(picture).curves
        assert sorted(curve.label for curve in curves) == sorted(
            [*(f"device {i}" for i in range(64)), "all devices"]
        )
        assert [curve.label for curve in curves if curve.opacity == 1] == [
            *("device 0", "device 63", "all devices")
        ]
        assert [name for name in said(picture) if "device" in name] == [
            *("device 0, lowest of 64", "all devices", "device 63, highest of 64")
        ]
        assert_drawn(picture)

    def test_a_crowd_that_ends_alike_has_two_extremes(self):
        """Where all of a crowd end with one value, two lines are named, not one twice."""
        lines = [Line(f"device {i}", range(20), [1.0] * 20, "devices") for i in range(20)]
        labels = [curve.label for curve in lay_out(one(*lines)).curves]
        assert len(labels) == len(set(labels)) == 20
        assert {"device 0, lowest of 20", "device 19, highest of 20"} <= set(said(one(*lines)))

    def test_nothing_runs_out_of_the_picture(self):
        """Names, titles and labels that are too long are wrapped, or cut with an ellipsis."""
        long = "a name that is much too long for any place it could stand in " * 4
        marks = (
            (Line(long, (1, 2), (1, 2)),),
            (Bar(long, 1, long),),
            (Span(long, 0, 1, long, long),),
            (Cell(0, 0, long), Cell(0, 1, long)),
            (Table((Axis(long), Axis(long)), ((long, 12345678),)),),
        )
        x, y = Axis(long, names=(long, long)), Axis(long, names=(long,))
        for columns in (1, 2, 3):
            panels = tuple(Panel(long, "counted", each, x=x, y=y, note=long) for each in marks)
            picture = Picture(long, panels, columns=columns)
            for text in texts(picture):
                title = text.find(f"{SVG}title")
                shown = text.text or (title.tail if title is not None else "") or ""
                wide = width(shown, float(text.get("font-size", 12)))
                start = {"end": 1, "middle": 0.5}.get(text.get("text-anchor", ""), 0)
                left = float(text.get("x")) - start * wide
                if "rotate" not in text.get("transform", ""):
                    assert left >= -1, shown
                    assert left + wide <= 961, shown

    def test_what_is_cut_is_told_on_hover(self):
        """A name that had to be cut carries the whole of itself as its title."""
        long = "a name that is much too long " * 9
        titles = [title.text for title in parsed(one(Bar(long, 1))).iter(f"{SVG}title")]
        assert long in titles

    @pytest.mark.parametrize("text", ["device 3", "WWW MMM", "損失関数", string.ascii_letters])
    def test_cut_text_fits(self, text):
        """Text is cut and wrapped to at most its room, and not at all where it fits."""
        assert shorten(text, width(text)) == text
        assert wrap(text, width(text)) == [text]
        short = shorten(text, width(text) - 1)
        assert short.endswith("…")
        assert width(short) < width(text)
        assert width(shorten(text, 40)) <= 40


class TestTicks:
    def test_round_numbers(self):
        """Ticks stand at 1, 2, 2.5 or 5 times a power of ten."""
        assert ticks((0, 1), Axis(), 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
        assert ticks((-3, 97), Axis(), 5) == [0, 20, 40, 60, 80]
        assert ticks((0, 10), Axis(), 4) == [0, 2.5, 5, 7.5, 10]

    def test_whole_numbers(self):
        """Where every x is whole, so are the ticks: there is no step 2.5."""
        assert ticks((0, 10), Axis(), 4, whole=True) == [0, 5, 10]
        assert ticks((0, 1), Axis(), 8, whole=True) == [0, 1]

    def test_powers_on_log_axes(self):
        """Devices come in powers of two, and so do ticks up to 256-fold; then in powers of ten."""
        axis = Axis("devices", log=True)
        assert ticks((1, 8), axis, 8) == [1, 2, 4, 8]
        assert ticks((0.9, 1100), axis, 8) == pytest.approx([1, 10, 100, 1000])
        assert ticks((1, 1e12), axis, 6) == pytest.approx([1, 1e2, 1e4, 1e6, 1e8, 1e10, 1e12])

    def test_a_short_log_axis_has_ticks(self):
        """Where less than two powers of two have a place, the ticks are round numbers."""
        assert ticks((5, 7), Axis(log=True), 4) == [5, 5.5, 6, 6.5, 7]
        assert ticks((7, 9), Axis(log=True), 4) == [7, 7.5, 8, 8.5, 9]

    def test_units_are_scaled(self):
        """Bytes, seconds and operations are written as people write them."""
        assert written([0, 500, 1000], BYTES) == ["0 B", "500 B", "1.00 kB"]
        assert written([0.002, 0.004], SECONDS) == ["2.00 ms", "4.00 ms"]

    def test_no_two_ticks_read_alike(self):
        """Numbers that differ only in a late digit are written with it."""
        assert written([2.3015, 2.302, 2.3025], Axis()) == ["2.3015", "2.302", "2.3025"]
        assert written([0.010005, 0.01001], SECONDS) == ["10.005 ms", "10.01 ms"]
        assert written([1_000_100, 1_000_200], BYTES) == ["1.0001 MB", "1.0002 MB"]

    def test_the_axes_say_their_units(self):
        """A unit that the numbers do not carry stands behind the label."""
        picture = one(Line("a", range(9), range(9)), x=Axis("rate", "steps/s"), y=SECONDS)
        assert "rate (steps/s)" in said(picture)
        assert "time" in said(picture)
        assert "4.00 s" in said(picture)

    def test_ticks_stand_at_their_numbers(self):
        """A number beside the axis stands at the height of that number."""
        picture = one(Line("a", (0, 100), (0, 4)), x=STEP)
        (frame,) = lay_out(picture).frames
        for text in texts(picture):
            if text.get("text-anchor") == "end":
                height = float(text.get("y"))
                assert values([(frame.left, height)], frame)[0, 1] == pytest.approx(
                    float(text.text), abs=0.01
                )


class TestOtherMarks:
    def test_bars(self):
        """Bars are as long as their numbers, which stand behind them, parts end to end."""
        picture = EACH_KIND["bars"]
        boxes = [
            rect for rect in parsed(picture).iter(f"{SVG}rect") if rect.get("height") == "16.0"
        ]
        lengths = [float(rect.get("width")) for rect in boxes]
        assert lengths[0] / lengths[2] == pytest.approx(2 / 2.5, abs=0.01)
        assert float(boxes[1].get("x")) == pytest.approx(
            float(boxes[0].get("x")) + lengths[0], abs=0.2
        )
        assert {"data=8", "3.00 s", "2.50 s", "compute", "wait"} <= set(said(picture))

    def test_what_is_not_nothing_is_seen(self):
        """A bar small beside the longest has a length; zero, less, and NaN have none."""
        sizes = (1e9, 1.0, 0.0, -5.0, math.nan, math.inf)
        picture = one(*(Bar(str(i), size) for i, size in enumerate(sizes)))
        wide = [
            float(rect.get("width"))
            for rect in parsed(picture).iter(f"{SVG}rect")
            if rect.get("height") == "16.0"
        ]
        assert wide[0] > 500
        assert wide[1:] == [1.5, 0, 0, 0, 0]

    def test_spans(self):
        """A span lies in its lane from its start to its end, and a key names its kind."""
        picture = EACH_KIND["spans"]
        first, second = (
            rect
            for rect in parsed(picture).iter(f"{SVG}rect")
            if rect.get("height") == "20.0" and rect.get("rx") is None
        )
        assert float(second.get("y")) > float(first.get("y"))
        left, wide = float(first.get("x")), float(first.get("width"))
        assert float(second.get("x")) == pytest.approx(left + wide / 2, abs=1)
        assert {"device 0", "first", "second", "forward", "backward", "6.00 ms"} <= set(
            said(picture)
        )

    def test_cells(self):
        """Cells lie in their rows and columns, and may reach over several."""
        picture = EACH_KIND["cells"]
        embed, heads, feed = [
            tuple(float(rect.get(name)) for name in ("x", "y", "width", "height"))
            for rect in parsed(picture).iter(f"{SVG}rect")
            if rect.get("rx") is None
        ]
        assert embed[1] == heads[1] < feed[1]
        assert embed[0] < heads[0] == feed[0]
        assert embed[3] == pytest.approx(feed[1] + feed[3] - heads[1])
        assert {"embed", "heads", "feed", "forward", "left", "right"} <= set(said(picture))
        assert "down: data; across: model" in said(picture)

    def test_tables(self):
        """Words stand left, numbers right with their unit; a long table says what is left out."""
        by_text = {text.text: text for text in texts(EACH_KIND["table"])}
        assert by_text["37.5 kB"].get("text-anchor") == "end"
        assert by_text["all_reduce"].get("text-anchor") is None
        assert by_text["37.5 kB"].get("x") == by_text["12 B"].get("x")
        long = one(Table((Axis("row"),), tuple((f"row {i}",) for i in range(30))))
        assert "and 6 more" in said(long)
        assert "row 24" not in said(long)

    def test_numbers_are_not_cut(self):
        """In a table without room words are cut, and numbers stay whole."""
        row = ("a word " * 30, 1234567, 3333333, "another " * 30, 7654321)
        table = panel(Table(tuple(map(Axis, "abcde")), (row,)))
        picture = Picture("Narrow", (table, table, table), columns=3)
        assert said(picture).count("1,234,567") == said(picture).count("7,654,321") == 3

    def test_nothing_to_show_is_said(self):
        """A panel without marks says so."""
        assert "nothing to show" in said(EACH_KIND["empty"])

    def test_columns(self):
        """Panels stand side by side in as many columns as the picture asks for."""
        panels = (lines_of(2), lines_of(2), lines_of(2))
        (alone, *_) = lay_out(Picture("Wide", panels)).frames
        first, second, third = lay_out(Picture("Two", panels, columns=2)).frames
        assert first.top == second.top < third.top
        assert first.left == third.left < second.left
        assert first.left + first.width < second.left
        assert second.left + second.width < 960
        assert first.width < alone.width / 2
        assert first.height < alone.height


class TestExtents:
    @pytest.mark.parametrize("log", [False, True])
    def test_extent_is_of_what_can_be_shown(self, log):
        """How far an axis reaches is the least and the most of what it can show."""
        axis = Axis(log=log)
        random = np.random.default_rng(0)
        for values in (random.normal(size=99), [3, math.nan, 1, math.inf], range(-4, 9)):
            shown = [float(v) for v in values if math.isfinite(v) and (v > 0 or not log)]
            for kind in (list, np.array, tuple):
                assert extent(kind(values), axis) == (min(shown), max(shown))

    def test_extent_of_nothing(self):
        """An axis that has nothing to show, or one value, still has two ends."""
        for nothing in ([], [math.nan], np.array([math.inf])):
            assert extent(nothing, Axis()) == (0.5, 1.5)
            assert extent(nothing, Axis(log=True)) == (0.5, 2.0)
        assert extent([7.0], Axis()) == (6.5, 7.5)
        low, high = extent([1e20], Axis())
        assert low < 1e20 < high
