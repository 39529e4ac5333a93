"""The text of compiled programs, in every dialect that compilers write."""

import pytest

from pdlkit.measure.compiled import inspect
from pdlkit.measure.groups import replica_groups
from pdlkit.measure.hlo import collectives
from pdlkit.measure.hlo_text import shape_bytes
from pdlkit.measure.sources import short
from pdlkit.records import Collective

SIZES = {"a": 2, "b": 4}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/tmp/ipykernel_123/456.py", "cell:7"),
        (inspect.__code__.co_filename, "pdlkit/measure/compiled.py:7"),
        ("/v/lib/python3.11/site-packages/optax/_src/clip.py", "optax/_src/clip.py:7"),
        ("C:\\home\\me\\model.py", "model.py:7"),
    ],
)
def test_a_line_has_the_same_name_on_every_machine(file, name):
    """A place is named without the folders and numbers that differ between runs."""
    assert short(file, 7) == name


def along(attributes):
    return sorted(tuple(group.tolist()) for group in replica_groups(attributes, 8))


ROWS, COLUMNS = [(0, 1, 2, 3), (4, 5, 6, 7)], [(0, 4), (1, 5), (2, 6), (3, 7)]


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", ROWS),
        ("[2,4]<=[8]", ROWS),
        ("mesh['a'=2,'b'=4] {'b'}", ROWS),
        ("mesh['axis_0'=1,'axis_1'=4,'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_1'}", ROWS),
        ("mesh['x'=8] {'x':(2)4}", ROWS),
        ("{{0,4},{1,5},{2,6},{3,7}}", COLUMNS),
        ("[4,2]<=[2,4]T(1,0)", COLUMNS),
        ("mesh['a'=2,'b'=4] {'a'}", COLUMNS),
        ("mesh['x'=8] {'x':(1)2}", COLUMNS),
        ("mesh['x'=4,'y'=2], device_ids=([4,2]0,4,1,5,2,6,3,7) {'y'}", COLUMNS),
        ("mesh['x'=4,'y'=2], device_ids=(0,4,1,5,2,6,3,7) {'y'}", COLUMNS),
        ("mesh['p'=2,'q'=2,'r'=2] {'p','r'}", [(0, 1, 4, 5), (2, 3, 6, 7)]),
        ("mesh['a'=2,'b'=4] {'a','b'}", [tuple(range(8))]),
        ("{}", [tuple(range(8))]),
    ],
)
def test_groups_are_read_in_every_way_they_are_written(written, groups):
    """The three ways of writing groups mean the same groups."""
    attributes = f"channel_id=1, replica_groups={written}, dimensions={{0}}, to_apply=%add"
    found = [tuple(sorted(group)) for group in along(attributes)]
    assert sorted(found) == groups


def test_groups_in_an_unknown_way_are_not_guessed():
    """A fourth way of writing groups is an error that shows it."""
    with pytest.raises(ValueError, match=r"as <8 by 2>\.\n  why: .*\n  try: "):
        replica_groups("channel_id=1, replica_groups=<8 by 2>, to_apply=%add", 8)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[4,2]{1,0}", 32),
        ("bf16[512,512]{1,0:T(8,128)(2,1)S(1)}", 512 * 512 * 2),
        ("(f32[4]{0}, s8[3]{0}, token[])", 19),
        ("pred[]", 1),
        ("c64[3]{0}", 24),
        ("f8e4m3fn[16]{0}", 16),
        ("s4[16]{0}", 16),
        ("s4[16]{0:E(4)}", 8),
        ("f32[<=10,2]{1,0}", 80),
    ],
)
def test_bytes_of_a_shape(shape, size):
    """A shape's size is its elements times their bytes, as they lie in memory."""
    assert shape_bytes(shape) == size


HEAD = """HloModule jit_step, is_scheduled=true, num_partitions=8

FileNames
1 "/srv/me/model.py"
2 "/srv/me/train.py"

FunctionNames
1 "loss"
2 "step"

FileLocations
1 {file_name_id=2 function_name_id=2 line=9 end_line=9 column=0 end_column=0}
2 {file_name_id=1 function_name_id=1 line=5 end_line=5 column=0 end_column=0}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}


%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}
"""

GPU = """
%wrapped (param_0: f32[1024]) -> f32[256] {
  %param_0 = f32[1024]{0} parameter(0)
  ROOT %rs = f32[256]{0} reduce-scatter(%param_0), channel_id=3, replica_groups=[2,4]<=[8], \
use_global_device_ids=true, dimensions={0}, to_apply=%add, metadata={op_name="rs" stack_frame_id=2}
}

ENTRY %main (p: f32[1024], q: bf16[64]) -> f32[256] {
  %p = f32[1024]{0} parameter(0), metadata={op_name="state.params[\\'w (1)\\']"}
  %q = bf16[64]{0} parameter(1)
  %ar-start = (f32[1024]{0}, bf16[64]{0}) all-reduce-start(%p, /*index=1*/%q), channel_id=1, \
replica_groups=[4,2]<=[2,4]T(1,0), use_global_device_ids=true, to_apply=%add
  %ar-done = (f32[1024]{0}, bf16[64]{0}) all-reduce-done(%ar-start)
  %r = f32[1024]{0} get-tuple-element(%ar-done), index=0
  %ag-start = (bf16[64]{0}, bf16[256]{0}) all-gather-start(bf16[64]{0} %q), channel_id=2, \
replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, use_global_device_ids=true
  %ag-done = bf16[256]{0} all-gather-done(%ag-start)
  %cp-start = (f32[1024]{0}, f32[1024]{0}, u32[], u32[]) collective-permute-start(%r), \
channel_id=4, source_target_pairs={{0,4},{4,0},{1,1}}
  %cp-done = f32[1024]{0} collective-permute-done(%cp-start)
  %rs-start = ((f32[1024]{0}), f32[256]{0}) async-start(%cp-done), calls=%wrapped
  %rs-update = ((f32[1024]{0}), f32[256]{0}) async-update(%rs-start), calls=%wrapped
  %a2a-start = ((f32[1024]{0}), f32[1024]{0}) all-to-all-start(%r), channel_id=5, \
replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={0}
  %a2a-done = f32[1024]{0} all-to-all-done(%a2a-start)
  ROOT %rs-done = f32[256]{0} async-done(%rs-update), calls=%wrapped
}
"""


def test_what_starts_and_is_done_later_is_counted_once():
    """An asynchronous collective counts where it starts, however it is wrapped."""
    assert list(collectives(HEAD + GPU, SIZES)) == [
        Collective("all_reduce", ("a",), 2, 4096 + 128, 4096 + 128),
        Collective("all_gather", ("b",), 4, 128, 384),
        Collective("permute", ("a",), 2, 4096, 4096),
        Collective("reduce_scatter", ("b",), 4, 4096, 3072, source="model.py:5"),
        Collective("all_to_all", ("a", "b"), 8, 4096, 3584),
    ]


TPU = """
%all-reduce-scatter.clone (input: bf16[64,8]) -> bf16[16,8] {
  %input = bf16[64,8]{1,0:T(8,128)(2,1)} parameter(0)
  %all = bf16[64,8]{1,0:T(8,128)(2,1)} all-reduce(%input), channel_id=4, \
replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true, to_apply=%add
  %offset = s32[]{:T(128)} constant(0)
  ROOT %part = bf16[16,8]{1,0:T(8,128)(2,1)} dynamic-slice(%all, %offset, %offset)
}

%body (now: (s32[], bf16[64,8])) -> (s32[], bf16[64,8]) {
  %now = (s32[]{:T(128)}, bf16[64,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%now), index=0
  %x = bf16[64,8]{1,0:T(8,128)(2,1)} get-tuple-element(%now), index=1
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%i, %two)
  %part = bf16[16,8]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.clone, \
metadata={op_name="grad" stack_frame_id=2}, backend_config={"flag_configs":["a(b"]}
  ROOT %turned = (s32[]{:T(128)}, bf16[64,8]{1,0}) tuple(%next, %x)
}

%condition (then: (s32[], bf16[64,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %then = (s32[]{:T(128)}, bf16[64,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%then), index=0
  ROOT %again = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

ENTRY %main (p: bf16[64,8]) -> (s32[], bf16[64,8]) {
  %p = bf16[64,8]{1,0:T(8,128)(2,1)} parameter(0)
  %first = s32[]{:T(128)} constant(3)
  %copy = s32[]{:T(128)} copy(%first)
  %start = (s32[]{:T(128)}, bf16[64,8]{1,0}) tuple(%copy, %p)
  ROOT %loop = (s32[]{:T(128)}, bf16[64,8]{1,0}) while(%start), condition=%condition, body=%body
}
"""


def test_the_dialect_of_the_tpu_compiler():
    """A fused all-reduce and slice is a reduce-scatter; 3, 5, ... 11 are five turns."""
    (found,) = collectives(HEAD + TPU, SIZES)
    size = 64 * 8 * 2
    wire = 3 * size // 4
    assert found == Collective("reduce_scatter", ("b",), 4, size, wire, 5, "model.py:5")


def test_an_unwritten_loop_that_cannot_be_worked_out_is_said_to_be():
    """Where the counter's start comes from outside, the loop's length is not guessed."""
    given = TPU.replace("constant(3)", "parameter(1)")
    with pytest.warns(UserWarning, match="counted once"):
        (found,) = collectives(HEAD + given, SIZES)
    assert found.times == 1
