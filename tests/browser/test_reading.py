"""What a reader finds on a board by looking and pointing, while the kernel is busy."""

import re

import pytest

from browser.lab import BLOCKING, TRAINER, expect


@pytest.fixture(scope="module")
def notebook(lab):
    """A notebook that is ready to train."""
    with lab.notebook("reading.ipynb", TRAINER) as notebook:
        yield notebook


@pytest.fixture(scope="module")
def board(notebook):
    """The board of a blocking training: the kernel answers nothing."""
    with notebook.training(BLOCKING) as board:
        yield board


def contrast(letters: dict) -> float:
    """Return how much letters stand out from what is behind them, 1 to 21.

    Source: WCAG 2.2, "contrast ratio", https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
    """
    *ink, alpha = rgba(letters["colour"])
    *paper, _ = rgba(letters["behind"])
    alpha *= letters["opacity"]
    seen = [alpha * one + (1 - alpha) * other for one, other in zip(ink, paper, strict=True)]
    dark, light = sorted((luminance(seen), luminance(paper)))
    return (light + 0.05) / (dark + 0.05)


def rgba(colour: str) -> list[float]:
    """Return red, green, blue and opacity, each in 0 to 1."""
    red, green, blue, *alpha = map(float, re.findall(r"[\d.]+", colour))
    return [red / 255, green / 255, blue / 255, *(alpha or [1.0])]


def luminance(colour: list[float]) -> float:
    """Return how light a colour is, 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_blocking_training_moves_and_says_how_to_end_it(board):
    """The board moves; it has no controls, but a sentence on how to stop."""
    drawn = board.frames
    board.await_step(board.step + 8)
    assert board.frames > drawn
    expect(board.status).to_contain_text("To stop, interrupt the kernel")
    expect(board.buttons).to_have_count(0)


def test_a_board_says_what_it_is(board):
    """To a screen reader it is a picture, with a name that says what was measured."""
    expect(board.svg).to_have_attribute("role", "group")
    name = board.svg.get_attribute("aria-label")
    assert "measured" in name
    assert "counted" in name
    assert "loss of each of 8 devices" in name


def test_what_happens_is_said_aloud(board):
    """A line that only a screen reader sees says how it goes, and where the cursor is."""
    expect(board.aloud).to_have_attribute("aria-live", "polite")
    expect(board.aloud).to_contain_text("step")
    board.svg.press("Home")
    expect(board.aloud).to_contain_text("step 0")
    board.svg.press("Escape")


def test_hovering_shows_values(board):
    """The mouse over a curve reads all curves of the panel at that step."""
    board.hover()
    expect(board.values).to_be_visible()
    read = board.read()
    assert 0 < read.pop("step") < board.step
    assert set(read) == {"all devices", *(f"device {i}" for i in range(8))}
    board.page.mouse.move(0, 0)
    expect(board.values).to_be_hidden()


def test_the_cursor_stays_on_its_step(board):
    """Though a longer curve is drawn from other points, for it has no more than pixels."""
    board.hover()
    step = board.read()["step"]
    board.await_step(2 * board.step + 600)
    assert abs(board.read()["step"] - step) < 10
    board.svg.press("Escape")


def test_the_cursor_moves_by_arrow_keys(board):
    """Home, arrows and End move the cursor over the steps; Escape takes it away."""
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    at = board.page.evaluate(active)

    def press(key: str) -> float:
        board.svg.press(key)
        return board.read()["step"]

    def there_and_back() -> bool:
        home, one, two, again = map(press, ("Home", "ArrowRight", "ArrowRight", "ArrowLeft"))
        assert home == 0 < one < two > again
        return again == one

    board.notebook.until(there_and_back)  # not where a longer curve has other points meanwhile
    board.svg.press("ArrowDown")  # to the next panel
    expect(board.values).to_contain_text("a step")
    board.svg.press("ArrowUp")
    expect(board.values).to_contain_text("all devices")
    board.svg.press("Escape")
    expect(board.values).to_be_hidden()
    assert board.page.evaluate(active) == at


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_key_hides_a_line(board, key):
    """Enter or Space on a name beside the curves hides its line, and again shows it."""
    name = board.name("device 3")
    lines = board.lines.count()
    expect(name).to_be_checked()
    name.press(key)
    expect(board.lines).to_have_count(lines - 1)
    expect(name).not_to_be_checked()
    expect(name).to_be_focused()
    name.press(key)
    expect(board.lines).to_have_count(lines)


def test_a_click_hides_a_line(board):
    """So does a click, though the picture moves while the button of the mouse is down."""
    lines = board.lines.count()
    for left in (lines - 1, lines):
        board.press_slowly("device 3")
        expect(board.lines).to_have_count(left)


def test_the_name_aimed_at_is_the_one_pressed(board):
    """Names follow their curves: one that moves away just before the click is still meant."""
    lines = board.lines.count()
    board.name("device 3").locator("text").hover()
    board.name("device 3").evaluate("name => name.remove()")
    board.page.mouse.down()
    board.page.mouse.up()
    expect(board.lines).to_have_count(lines - 1)
    board.name("device 3").press("Enter")
    expect(board.lines).to_have_count(lines)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_letters_can_be_read(board, theme):
    """In a light and in a dark theme letters stand out from the page by 4.5 at least."""
    board.notebook.theme(theme)
    board.hover()
    letters = board.letters()
    assert len(letters) > 30
    assert [each for each in letters if each["text"] and contrast(each) < 4.5] == []


def test_an_interrupt_ends_it_cleanly(notebook, board):
    """Interrupt the kernel: the cell ends without an error, and there is a run."""
    notebook.theme("Light")
    notebook.do("notebook:interrupt-kernel")
    board.cell.outputs()
    assert notebook.answer("print(run.ended)") == "interrupted"
