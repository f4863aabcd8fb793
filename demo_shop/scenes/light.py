"""The light of a photo: time of day and weather."""

from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float]


class Light(NamedTuple):
    """The colours of the sky and the tint of the picture; colours are red, green and blue in 0..255."""

    zenith: Colour
    horizon: Colour
    clouds: Colour
    tint: Colour
    """Multiplies every colour of the finished picture."""
    is_dark: bool = False
    """Whether lamps and windows shine."""

    def indoors(self) -> "Light":
        """Return the light of a room: most of it comes from lamps, at any hour."""
        red, green, blue = self.tint
        return self._replace(tint=((2.1 + red) / 3, (2.0 + green) / 3, (1.85 + blue) / 3))


LIGHTS = {
    "dawn": Light((120, 150, 205), (250, 205, 175), (255, 225, 210), (1.04, 0.97, 0.92)),
    "noon": Light((55, 120, 205), (185, 215, 240), (255, 255, 255), (1.05, 1.04, 1.0)),
    "dusk": Light((95, 95, 160), (250, 170, 105), (255, 190, 150), (1.06, 0.88, 0.76)),
    "overcast": Light((160, 168, 178), (212, 216, 220), (240, 242, 245), (0.93, 0.95, 0.97)),
    "night": Light((35, 50, 100), (95, 105, 150), (80, 90, 125), (0.56, 0.58, 0.74), is_dark=True),
}
_SHARES = {"dawn": 0.16, "noon": 0.42, "dusk": 0.16, "overcast": 0.19, "night": 0.07}


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a time of day and a weather; most photos are taken by day."""
    return LIGHTS[str(rng.choice(list(_SHARES), p=list(_SHARES.values())))]
