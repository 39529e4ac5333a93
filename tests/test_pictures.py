"""A picture is data: panels of marks, each with its word, lowered when asked."""

import csv
import io
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pdlkit.drawing.styles import spread
from pdlkit.pictures import Axis, Bar, Cell, Line, Panel, Picture, Span, Table

SECONDS = Axis("time", "s")
BYTES = Axis("", "B")

TABLE = Table((Axis("collective"), Axis("sends", "B")), (("all_reduce", 37500), ("copy", 12)))
BARS = (Bar("all_reduce", 4e6), Bar("permute", 1e6))
STACKED = (Bar("data=8", 2.0, "compute"), Bar("data=8", 1.0, "wait"), Bar("seq=8", 2.5, "compute"))
SPANS = (
    Span("device 0", 0.0, 0.004, "0", "forward"),
    Span("device 0", 0.006, 0.008, "0", "backward"),
    Span("device 1", 0.002, 0.006, "0", "forward"),
)
CELLS = (
    Cell(0, 0, "embed", rows=2),
    Cell(0, 1, "heads"),
    Cell(0, 2, "heads"),
    Cell(1, 1, "feed forward", columns=2),
)
RISING = Line("rising", range(9), range(9))


def one(marks, word="counted", title="what each device sends", **more) -> Picture:
    return Picture("One step", (Panel(title, word, tuple(marks), **more),))


def lines_of(count: int, points: int = 200) -> Picture:
    steps = range(points)
    lines = [
        Line(f"device {i}", steps, [2.0 * 0.98**step + i / 100 for step in steps], "devices")
        for i in range(count)
    ]
    return one(lines, "measured", "loss", x=Axis("step"), y=Axis("loss"))


def written(picture: Picture) -> set[str]:
    """Return all that is written in the figure of a picture."""
    from matplotlib.text import Text

    from pdlkit.drawing.figures import draw

    figure = draw(picture)
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(Text)}


def body(picture: Picture) -> str:
    """Return the text below the title."""
    return picture.text.partition("\n\n")[2]


EACH_KIND = {
    "line": lines_of(3),
    "bar": one(BARS, x=BYTES),
    "span": one(SPANS, "modelled", x=SECONDS),
    "cell": one(CELLS),
    "table": one([TABLE]),
    "empty": one([]),
}
every_kind = pytest.mark.parametrize("picture", EACH_KIND.values(), ids=EACH_KIND.keys())


class TestWords:
    def test_a_panel_says_how_it_is_known(self):
        """Every panel is measured, counted or modelled, and nothing else."""
        with pytest.raises(ValueError, match="'guessed' does not say how") as error:
            Panel("speedup", "guessed", ())
        _, why, fix = str(error.value).splitlines()
        assert why == (
            "  why: all that is shown is measured, counted or modelled; the three are not mixed."
        )
        assert fix.startswith("  try: Panel(title,")

    def test_a_line_may_be_known_otherwise_than_its_panel(self):
        """Where one line is modelled in a measured panel, panel and line both say so."""
        modelled = Line("ideal", (1, 2), (1, 2), word="modelled")
        picture = one([RISING, modelled], "measured", "speedup")
        assert repr(picture) == "<measured and modelled: One step; speedup>"
        assert "measured and modelled: speedup" in picture.text
        assert "ideal (modelled)" in picture.text
        assert "ideal (modelled)" in picture.svg

    def test_an_unknown_word_of_a_mark_is_refused(self):
        """A line or bar cannot carry a word that a panel could not."""
        with pytest.raises(ValueError, match="'guessed' does not say how"):
            one([Bar("a", 1, word="guessed")])

    @every_kind
    def test_every_lowering_carries_the_word(self, picture):
        """The word stands in the alt text, the text and the drawing of any picture."""
        assert picture.word in repr(picture)
        assert f"{picture.word}: " in picture.text
        assert f">{picture.word}</text>" in picture.svg


class TestData:
    def test_a_picture_has_a_panel(self):
        """Without a panel a picture would not say how it is known, so it is refused."""
        with pytest.raises(ValueError, match="'Loss' has no panel") as error:
            Picture("Loss", ())
        assert "which says that nothing was seen" in str(error.value)

    def test_marks_of_two_kinds_need_two_panels(self):
        """A panel has one pair of axes, so its marks are of one kind."""
        with pytest.raises(TypeError, match=r"holds marks of 2 kinds: Bar, Line") as error:
            one([*BARS, RISING])
        assert "try: a panel for each kind" in str(error.value)

    def test_alt_text_is_the_same_where_the_title_is_not(self):
        """`alt` stands for a title whose numbers differ from run to run."""
        first, second = (
            Picture(f"Loss {loss}", (Panel("loss", "measured", ()),), alt="loss, 200 steps")
            for loss in (0.03, 0.04)
        )
        assert repr(first) == repr(second) == "<measured: loss, 200 steps>"

    def test_alt_text_is_made_from_the_titles(self):
        """Without `alt`, the title and the panels' titles are the alt text."""
        assert repr(one(BARS)) == "<counted: One step; what each device sends>"


class TestText:
    def test_table(self):
        """Words are aligned left, numbers right and with their units."""
        assert body(one([TABLE])) == (
            "counted: what each device sends\n"
            "collective    sends\n"
            "───────────────────\n"
            "all_reduce  37.5 kB\n"
            "copy           12 B"
        )

    def test_bars(self):
        """A bar is as long as its number, which stands behind it."""
        assert body(one(BARS, x=BYTES)) == (
            "counted: what each device sends\n"
            "all_reduce  ████████████████████████████████████ 4.00 MB\n"
            "permute     █████████ 1.00 MB"
        )

    def test_stacked_bars(self):
        """Parts of a bar stand end to end, and a key names them."""
        assert body(one(STACKED, "modelled", "", x=SECONDS)) == (
            "modelled\n"
            "data=8  ████████████████████████▒▒▒▒▒▒▒▒▒▒▒▒ 3.00 s\n"
            "seq=8   ██████████████████████████████ 2.50 s\n"
            "█ compute  ▒ wait"
        )

    def test_what_is_not_nothing_is_seen(self):
        """A bar that is small beside the longest still has a length; zero has none."""
        text = body(one([Bar("most", 1e9), Bar("some", 1), Bar("none", 0)], x=BYTES))
        assert "some  █ 1 B" in text
        assert "none   0 B" in text

    def test_spans(self):
        """A lane is a line; what happens stands where it happens."""
        assert body(one(SPANS, "modelled", "a step", x=SECONDS)) == (
            "modelled: a step\n"
            "device 0 │█████████████0██████████████              ▒▒▒▒▒▒0▒▒▒▒▒▒▒│\n"
            "device 1 │              █████████████0██████████████              │\n"
            "          0 s                     time                     8.00 ms\n"
            "█ forward  ▒ backward"
        )

    def test_cells(self):
        """Boxes share their edges, and may reach over rows and columns."""
        assert body(one(CELLS, title="one block")) == (
            "counted: one block\n"
            "┌───────┬────────┬────────┐\n"
            "│       │ heads  │ heads  │\n"
            "│ embed ├────────┴────────┤\n"
            "│       │   feed forward  │\n"
            "└───────┴─────────────────┘"
        )

    def test_lines(self):
        """A curve is drawn in dots, with the ends of both axes, and its own ends."""
        axes = {"x": Axis("devices"), "y": Axis("speedup")}
        assert body(one([RISING], "measured", "", **axes)) == (
            "measured\n"
            "  speedup\n"
            "8 ┤                                                 ⢀⣀⠤⠤⠒⠒⠉\n"
            "  │                                          ⣀⣀⠤⠤⠒⠊⠉⠁\n"
            "  │                                   ⣀⣀⠤⠔⠒⠊⠉\n"
            "  │                            ⣀⡠⠤⠔⠒⠉⠉\n"
            "  │                     ⣀⣀⠤⠔⠒⠊⠉⠁\n"
            "  │              ⣀⡠⠤⠔⠒⠉⠉\n"
            "  │      ⢀⣀⡠⠤⠒⠒⠉⠉\n"
            "0 ┤⣀⠤⠤⠒⠒⠉⠁\n"
            "  └────────────────────────────────────────────────────────\n"
            "   0                       devices                        8\n"
            "line    starts  ends\n"
            "────────────────────\n"
            "rising       0     8"
        )

    def test_a_crowd_is_told_by_its_extremes(self):
        """Of 64 lines of a group, the one that ends lowest and the highest are named."""
        text = lines_of(64).text
        assert "device 0, lowest of 64" in text
        assert "device 63, highest of 64" in text
        assert "device 7" not in text

    def test_what_is_not_finite_is_a_gap(self):
        """A NaN leaves a gap; the ends are those of what is finite."""
        broken = Line("loss", range(4), (1.0, math.nan, 2.0, math.inf))
        text = one([broken], "measured", "").text
        assert text.endswith("loss       1     2")

    def test_nothing_to_show_is_said(self):
        """A panel without marks says so."""
        assert body(one([])) == "counted: what each device sends\nnothing to show"

    @every_kind
    def test_text_is_narrow_and_stable(self, picture):
        """Text fits 72 columns, and the same picture gives the same text."""
        assert max(map(len, picture.text.splitlines())) <= 72
        assert picture.text == picture.text


class TestFiles:
    @every_kind
    @pytest.mark.parametrize(
        ("suffix", "start"),
        [(".png", b"\x89PNG"), (".svg", b"<svg "), (".pdf", b"%PDF"), (".txt", b"One step\n")],
    )
    def test_the_suffix_says_the_form(self, picture, suffix, start, tmp_path):
        """`save` writes the form that the suffix names, the same bytes each time."""
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix.upper()}"
        picture.save(first)
        picture.save(str(second))
        assert first.read_bytes().startswith(start)
        assert first.read_bytes() == second.read_bytes()

    def test_an_unknown_suffix_is_refused(self, tmp_path):
        """Where the suffix names no form, the error lists those there are."""
        with pytest.raises(ValueError, match=r"cannot be saved as 'loss.gif'") as error:
            EACH_KIND["line"].save(tmp_path / "loss.gif")
        assert "`.png`, `.svg`, `.pdf`, `.txt`, `.csv`, `.json`" in str(error.value)
        assert f"try: picture.save({str(tmp_path / 'loss.png')!r})" in str(error.value)

    def test_csv_holds_the_numbers(self, tmp_path):
        """A table is written with raw numbers, their unit in the header, and the word."""
        one([TABLE]).save(tmp_path / "table.csv")
        assert (tmp_path / "table.csv").read_text() == (
            "panel,word,collective,sends [B]\n"
            "what each device sends,counted,all_reduce,37500\n"
            "what each device sends,counted,copy,12\n"
        )

    def test_csv_has_a_row_for_each_point(self, tmp_path):
        """Lines are written a point a row; a line's own word goes before its panel's."""
        ideal = Line("ideal", (1, 2), (1.0, 2.0), word="modelled")
        one([ideal], "measured", "speedup", x=Axis("devices")).save(tmp_path / "speedup.csv")
        rows = list(csv.reader(io.StringIO((tmp_path / "speedup.csv").read_text())))
        assert rows[0] == ["panel", "word", "label", "devices", "y"]
        assert rows[2] == ["speedup", "modelled", "ideal", "2", "2.0"]

    @every_kind
    def test_json_holds_all(self, picture, tmp_path):
        """JSON is the picture itself: every panel, every mark, every word."""
        picture.save(tmp_path / "picture.json")
        whole = json.loads((tmp_path / "picture.json").read_text())
        (panel,) = whole["panels"]
        assert whole["alt"] == repr(picture)
        assert panel["word"] == picture.panels[0].word
        assert len(panel["marks"]) == len(picture.panels[0].marks)

    def test_json_has_null_for_what_is_not_finite(self, tmp_path):
        """JSON knows no NaN: a gap in a line is null."""
        one([Line("loss", (0, 1), (1.0, math.nan))]).save(tmp_path / "loss.json")
        (panel,) = json.loads((tmp_path / "loss.json").read_text())["panels"]
        assert panel["marks"][0]["y"] == [1.0, None]


class TestFigures:
    def test_a_part_that_the_first_bar_lacks_is_in_the_key(self):
        """Every part of any bar is named, once."""
        marks = Bar("a", 1, part="compute"), Bar("b", 1, part="compute"), Bar("b", 2, part="wait")
        assert {"compute", "wait"} <= written(one(marks, "modelled", "", x=SECONDS))

    def test_a_figure_is_the_readers_own(self):
        """`draw` gives a matplotlib figure that pyplot does not keep."""
        from pdlkit.drawing.figures import draw

        figure = draw(EACH_KIND["line"])
        assert type(figure).__name__ == "Figure"
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert 7 <= figure.get_figwidth() <= 9

    def test_every_line_is_named(self):
        """Up to ten lines are each named where they end."""
        assert {f"device {i}" for i in range(8)} <= written(lines_of(8))

    def test_names_stand_apart(self):
        """Names beside lines that end close together do not lie on each other."""
        assert spread([0.0, 0.0, 0.5], 0.1) == [0.0, 0.1, 0.5]
        assert spread([0.95, 1.0, 1.0], 0.125) == [0.75, 0.875, 1.0]

    def test_64_lines_are_a_crowd(self):
        """Of 64 lines all are drawn and two are named."""
        from pdlkit.drawing.figures import draw

        names = written(lines_of(64))
        assert {"device 0, lowest of 64", "device 63, highest of 64"} <= names
        assert "device 7" not in names
        (axes,) = draw(lines_of(64)).findobj(lambda artist: hasattr(artist, "get_xlim"))
        assert sum(line.get_alpha() == 0.25 for line in axes.lines) == 62

    def test_a_log_axis_counts_in_powers_of_two(self):
        """Devices come in powers of two, and so do the ticks."""
        line = Line("ideal", (1, 2, 4, 8), (0.1, 0.2, 0.4, 0.8))
        ticks = written(one([line], "modelled", x=Axis("devices", log=True)))
        assert {"1", "2", "4", "8"} <= ticks
        assert not any("mathdefault" in tick for tick in ticks)

    def test_a_long_table_says_what_it_leaves_out(self):
        """A drawing shows 24 rows and how many more there are; the text shows all."""
        table = Table((Axis("row"),), tuple((f"row {i}",) for i in range(30)))
        assert "and 6 more" in written(one([table]))
        assert "row 29" in one([table]).text

    def test_a_line_known_otherwise_says_so(self):
        """Where one line is modelled in a measured panel, its name says so."""
        modelled = Line("ideal", (1, 2), (1, 2), word="modelled")
        names = written(one([RISING, modelled], "measured", "speedup"))
        assert {"rising", "ideal (modelled)", "measured and modelled"} <= names

    @every_kind
    def test_the_word_is_there(self, picture):
        """The word stands in the drawing of any picture."""
        assert picture.word in written(picture)

    def test_several_threads_draw_at_once(self):
        """Pictures drawn in threads are those drawn in one, and leave no setting behind."""
        import matplotlib

        from pdlkit.drawing.figures import encode

        pictures = list(EACH_KIND.values()) * 2
        plain = [encode(picture, "png") for picture in pictures]
        before = dict(matplotlib.rcParams)
        hurry = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                drawn = pool.map(lambda picture: encode(picture, "png"), pictures)
                assert list(drawn) == plain
        finally:
            sys.setswitchinterval(hurry)
        assert dict(matplotlib.rcParams) == before

    def test_the_readers_own_settings_do_not_matter(self):
        """A style that the reader has set changes no picture, and is left as it was."""
        import matplotlib

        from pdlkit.drawing.figures import encode

        plain = encode(EACH_KIND["bar"], "png")
        with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30}):
            assert encode(EACH_KIND["bar"], "png") == plain
            assert matplotlib.rcParams["font.size"] == 30
