"""`show` makes a picture of whatever there is to see."""

import base64
import os
import struct
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pdlkit.drawing import bundle, show
from pdlkit.pictures import Bar, Panel, Picture
from pdlkit.records import Collective, Memory, Metrics, Record, Report, ring_wire_bytes


def mesh(**axes: int) -> Mesh:
    devices = np.array(jax.devices()[: int(np.prod(list(axes.values())))])
    return Mesh(devices.reshape(tuple(axes.values())), tuple(axes))


def cut(shape, *spec, **axes: int) -> jax.Array:
    return jax.device_put(jnp.zeros(shape), NamedSharding(mesh(**axes), P(*spec)))


def history(devices: int, steps: int = 5, noise: float = 0.0) -> list[Record]:
    losses = 2.0 / (1 + np.arange(steps))[:, None] + np.arange(devices) / 10 + noise
    return [Record(i, Metrics(losses[i]), 0.01) for i in range(steps)]


def sum_of(count: int, times: int = 1, *, source: str = "", axis: str = "data") -> Collective:
    wire = ring_wire_bytes("all_reduce", 8, count)
    return Collective("all_reduce", (axis,), 8, count, wire, times, source)


LEAVES = (
    sum_of(37_632, source="/opt/ada/cnn.py:12"),
    sum_of(512, source="/opt/ada/cnn.py:12"),
    sum_of(262_144, source="/opt/ada/cnn.py:13"),
    sum_of(1_024, source="/opt/ada/cnn.py:13"),
    sum_of(40, 2, source="C:\\ada\\cnn.py:14"),
)
MEMORY = Memory(1_500_000, 320_000, 80_000, 300_000)
REPORT = Report(LEAVES, LEAVES, 3_200_000, MEMORY, {"data": 8})

EVERYTHING = {
    "mesh": lambda: mesh(data=4, model=2),
    "array": lambda: cut((16, 32), "data", data=8),
    "report": lambda: REPORT,
    "collectives": lambda: list(LEAVES),
    "collective": lambda: LEAVES[0],
    "memory": lambda: MEMORY,
    "history": lambda: history(8),
    "record": lambda: history(8)[0],
    "picture": lambda: Picture("Sent", (Panel("sent", "counted", (Bar("all", 1),)),)),
}
every_thing = pytest.mark.parametrize("make", EVERYTHING.values(), ids=EVERYTHING.keys())


def body(picture: Picture) -> str:
    return picture.text.partition("\n\n")[2]


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


class TestMeshes:
    def test_two_axes(self):
        """A mesh is the grid of its devices, its axes named, in mesh order."""
        assert show(mesh(data=4, model=2)).text == (
            "8 CPU devices as a mesh: data=4, model=2\n"
            "\n"
            "counted: ids of the devices\n"
            "down: data; across: model\n"
            "    0   1\n"
            "  ┌───┬───┐\n"
            "0 │ 0 │ 1 │\n"
            "  ├───┼───┤\n"
            "1 │ 2 │ 3 │\n"
            "  ├───┼───┤\n"
            "2 │ 4 │ 5 │\n"
            "  ├───┼───┤\n"
            "3 │ 6 │ 7 │\n"
            "  └───┴───┘"
        )

    def test_mesh_order_is_not_device_order(self):
        """The grid shows where each device stands, whatever its id."""
        turned = Mesh(np.array(jax.devices()[:4])[::-1], ("data",))
        assert "│ 3 │ 2 │ 1 │ 0 │" in show(turned).text

    def test_three_axes_are_slabs(self):
        """Of three axes, the first is one panel for each place along it."""
        picture = show(mesh(stage=2, data=2, model=2))
        assert [panel.title for panel in picture.panels] == ["stage 0", "stage 1"]
        assert "0 │ 4 │ 5 │" in picture.text
        assert repr(picture) == "<counted: mesh of 8 devices, stage=2, data=2, model=2>"

    def test_no_axes(self):
        """A mesh without axes is one device."""
        alone = Mesh(np.array(jax.devices()[0]), ())
        assert show(alone).title == "1 CPU device as a mesh"


class TestArrays:
    def test_cut_along_both_dimensions(self):
        """A matrix is drawn as it is cut, each part with the device that holds it."""
        array = cut((16, 32), "data", "model", data=4, model=2)
        assert show(array).text == (
            "float32[16, 32]: 8 pieces of 4 × 16, each on its own device\n"
            "\n"
            "counted: the devices that hold each part, of a mesh data=4, model=2\n"
            "down: dimension 0, cut by data; across: dimension 1, cut by model\n"
            "         0:16   16:32\n"
            "      ┌───────┬───────┐\n"
            "0:4   │ CPU 0 │ CPU 1 │\n"
            "      ├───────┼───────┤\n"
            "4:8   │ CPU 2 │ CPU 3 │\n"
            "      ├───────┼───────┤\n"
            "8:12  │ CPU 4 │ CPU 5 │\n"
            "      ├───────┼───────┤\n"
            "12:16 │ CPU 6 │ CPU 7 │\n"
            "      └───────┴───────┘"
        )

    def test_copies(self):
        """A part that several devices hold lists them all."""
        picture = show(cut((16,), "data", data=4, model=2))
        assert picture.title == "float32[16]: 4 pieces of 4, each on 2 devices"
        assert "│ CPU 0, 1 │ CPU 2, 3 │ CPU 4, 5 │ CPU 6, 7 │" in picture.text

    def test_whole_everywhere(self):
        """A replicated array is one part on all devices."""
        picture = show(cut((16, 32), data=8))
        assert picture.title == "float32[16, 32]: whole on each of 8 devices"
        assert "│ CPU 0 to 7 │" in picture.text

    def test_a_dimension_cut_twice(self):
        """Two mesh axes may cut one dimension; both are named."""
        picture = show(cut((16, 32), None, ("data", "model"), data=4, model=2))
        assert "across: dimension 1, cut by data and model" in picture.text

    @pytest.mark.parametrize("shape", [(), (4, 8, 16)])
    def test_other_ranks_are_tables(self, shape):
        """A number, or an array of three dimensions and more, is a table of parts."""
        picture = show(cut(shape, *(["data"] if shape else []), data=4))
        assert "part" in body(picture).splitlines()[1]
        assert picture.panels[0].marks[0].rows[0][1] == ("CPU 0" if shape else "CPU 0 to 3")

    def test_not_on_a_mesh(self):
        """An array that no mesh placed is whole on its device."""
        assert show(jnp.zeros((3, 4))).title == "float32[3, 4]: whole on 1 device"


class TestReports:
    def test_report(self):
        """A report is its collectives, what they send, and what memory holds."""
        assert show(REPORT).text == (
            "Each device, each step: 527 kB sent, 3.20 MFLOP, 1.60 MB held\n"
            "\n"
            "counted: collectives of one step\n"
            "collective  along  devices  times  payload    sends  asked for at\n"
            "─────────────────────────────────────────────────────────────────\n"
            "all_reduce  data         8      1  37.6 kB  65.9 kB  cnn.py:12\n"
            "all_reduce  data         8      1    512 B    896 B  cnn.py:12\n"
            "all_reduce  data         8      1   262 kB   459 kB  cnn.py:13\n"
            "all_reduce  data         8      1  1.02 kB  1.79 kB  cnn.py:13\n"
            "all_reduce  data         8      2     40 B    140 B  cnn.py:14\n"
            "payload: the operand on one device, each time; sends: all times, by the\n"
            "ring algorithm.\n"
            "\n"
            "counted: what each device sends in one step\n"
            "all_reduce along data  ████████████████████████████████████ 527 kB\n"
            "\n"
            "counted: what each device holds in one step\n"
            "arguments               ████████████████████████████████████ 1.50 MB\n"
            "outputs (not in place)  █ 20.0 kB\n"
            "temporaries             ██ 80.0 kB"
        )

    def test_what_the_compiler_rewrote_is_said(self):
        """Where the compiled program moves other than was asked, the picture says so."""
        merged = Report(LEAVES[:2], (sum_of(38_144),), 1, MEMORY, {"data": 8})
        assert "asked for 2 that send 66.8 kB; the compiler\nmade them 1" in show(merged).text
        assert "compiler" not in show(REPORT).text

    def test_sums_are_by_kind_and_axis(self):
        """Bars add up the collectives of one kind along one axis, all their times."""
        bars = show([sum_of(800), sum_of(800, 2), sum_of(800, axis="model")]).panels[1].marks
        assert bars == (Bar("all_reduce along data", 4200), Bar("all_reduce along model", 1400))

    def test_copies_are_those_of_all_devices(self):
        """Where devices work one after another, what is alike is one row, and all are counted."""
        over = Collective("copy", ("stage",), 2, 100, 100)
        picture = show(Report((over,) * 3, (over,) * 3, 10, MEMORY, {"stage": 4}))
        assert picture.title.startswith("Each step: 300 B sent by all devices; the busiest does 10")
        assert picture.panels[0].marks[0].rows == (("copy", "stage", 2, 3, 100, 300),)
        assert picture.panels[1].title == "what all devices send in one step"

    def test_one_device_sends_nothing(self):
        """A program without collectives shows its memory and that nothing is sent."""
        alone = show(Report((), (), 10, MEMORY, {}))
        assert alone.title.startswith("Each device, each step: nothing sent")
        assert [panel.title for panel in alone.panels] == ["what each device holds in one step"]


class TestRuns:
    def test_losses(self):
        """Training is the loss of each device and of all, as measured."""
        picture = show(history(8))
        assert [line.label for line in picture.panels[0].marks] == [
            *(f"device {i}" for i in range(8)),
            "all devices",
        ]
        assert [line.y[0] for line in picture.panels[0].marks[:3]] == [2.0, 2.1, 2.2]
        assert picture.title == "Loss from 2.35 to 0.75; 8 devices end between 0.4 and 1.1"
        assert repr(picture) == "<measured: loss of each of 8 devices, 5 steps>"

    def test_one_device(self):
        """One device has one loss, drawn once."""
        picture = show(history(1))
        assert [line.label for line in picture.panels[0].marks] == ["loss"]
        assert repr(picture) == "<measured: loss of 1 device, 5 steps>"

    def test_whatever_has_a_history(self):
        """A run shows its history."""

        class Run:
            history = history(2)

        assert show(Run()) == show(Run.history)

    def test_side_by_side(self):
        """Trainings under names are one panel of curves, each the mean of up to 8 steps."""

        class Run:
            history = history(2)

        class Worse:
            history = tuple(
                Record(record.step, Metrics(100 * record.device_loss), 0.01)
                for record in history(2)
            )

        picture = show({"ours": Run(), "theirs": Worse()})
        ours, theirs = picture.panels[0].marks
        assert (ours.label, theirs.label) == ("ours", "theirs")
        losses = [record.loss for record in Run.history]
        np.testing.assert_allclose(ours.y, [np.mean(losses[: k + 1]) for k in range(5)])
        np.testing.assert_allclose(theirs.y, 100 * np.array(ours.y))
        assert picture.panels[0].y.log  # so far apart that only a logarithm shows both
        assert repr(picture) == "<measured: loss of ours, theirs>"

    def test_a_run_of_no_steps(self):
        """Of a run that ended before its first step, the picture says so."""

        class Run:
            history = ()

        assert show(Run()).text == "No step was made\n\nmeasured: loss\nnothing to show"


class TestNotebooks:
    @every_thing
    def test_bundle(self, make):
        """A notebook keeps a PNG and its alt text, which also stands in the metadata."""
        data, metadata = bundle(make())
        assert set(data) == {"image/png", "text/plain"}
        assert data["text/plain"] == repr(show(make()))
        assert metadata["image/png"]["alt"] == data["text/plain"]
        wide, high = size_of(base64.b64decode(data["image/png"]))
        assert 500 <= wide <= 900
        assert high >= 100

    def test_64_devices(self):
        """The picture of 64 devices is as large as that of 8."""
        few, many = (bundle(history(count, 200))[0]["image/png"] for count in (8, 64))
        assert size_of(base64.b64decode(few)) == size_of(base64.b64decode(many))

    def test_alt_text_does_not_vary(self):
        """What was measured differs from run to run, and its alt text does not."""
        first, second = (show(history(8, noise=noise)) for noise in (0.0, 0.1))
        assert first.title != second.title
        assert repr(first) == repr(second)

    def test_plain_text(self, monkeypatch):
        """With PDLKIT_RENDER=text a record shows itself in plain text alone."""
        monkeypatch.setenv("PDLKIT_RENDER", "text")
        assert bundle(REPORT) == ({"text/plain": show(REPORT).text}, {})

    def test_a_record_shows_itself(self):
        """A notebook asks the record, and the record finds its lowering."""
        assert REPORT._repr_mimebundle_() == bundle(REPORT)

    def test_matplotlib_is_loaded_for_the_first_drawing(self):
        """Pictures as data, text and SVG need no matplotlib, and drawing no pyplot."""
        script = (
            "import sys; from pdlkit.drawing import show; from pdlkit.records import Memory\n"
            "picture = show(Memory(1, 1, 1, 1)); picture.text; picture.svg\n"
            "assert 'matplotlib' not in sys.modules\n"
            "picture._repr_mimebundle_(); assert 'matplotlib' in sys.modules\n"
            "assert 'matplotlib.pyplot' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)


class TestErrors:
    @pytest.mark.parametrize(
        ("thing", "what"),
        [
            (7, "a int"),
            ({}, "a dict"),
            ([], "a list of nothing"),
            ((1, "a"), "a tuple of int, str"),
        ],
    )
    def test_what_cannot_be_shown(self, thing, what):
        """Where there is no picture of a thing, the error lists what there is one of."""
        with pytest.raises(TypeError, match=f"there is no picture of {what}.") as error:
            show(thing)
        _, why, fix = str(error.value).splitlines()
        assert why.startswith("  why: show knows a mesh, an array, a report, collectives")
        assert fix == "  try: show(program.mesh), show(pdl.inspect(program, work)) or show(run)."
