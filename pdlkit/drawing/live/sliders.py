"""A slider for each argument of a function, and a button that ends the asking."""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets


class Sliders:
    """Calls `asked` with the chosen values, and `kept` when the picture is to stay."""

    def __init__(self, choices: Mapping[str, Sequence], asked: Callable, kept: Callable):
        self._asked = asked
        self._sliders = {
            name: ipywidgets.SelectionSlider(
                options=[(str(value), value) for value in values],
                value=values[-1],
                description=name,
                continuous_update=False,  # a value that is only passed by is not asked for
                style={"description_width": "initial"},
            )
            for name, values in choices.items()
        }
        for slider in self._sliders.values():
            slider.observe(self._changed, "value")
        keep = ipywidgets.Button(
            description="Keep", icon="check", tooltip="leave the picture, without the slider"
        )
        keep.on_click(lambda _: kept())
        self.rows = [
            ipywidgets.HBox(
                [*self._sliders.values(), keep], layout=ipywidgets.Layout(flex_flow="row wrap")
            )
        ]

    def _changed(self, _) -> None:
        self._asked(**{name: slider.value for name, slider in self._sliders.items()})
