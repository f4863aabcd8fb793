"""The regions, categories, amenities and kinds of picture of the demo shop, and the words for them."""

from typing import NamedTuple


class Region(NamedTuple):
    """A region that sales are in."""

    country: str
    name: str
    place: str
    """The name with its preposition, such as 'on the Amalfi Coast'."""
    landscapes: frozenset[str]


class Category(NamedTuple):
    """A kind of stay."""

    name: str
    landscapes: frozenset[str]
    """A region offers this kind of stay if it has one of these."""
    weight: float
    """Share of the sales without seasons, up to a common factor."""
    peak_day: int
    """Day of the year on which most of these sales open."""
    swing: float
    """Log-ratio of the peak to the yearly middle."""
    price_factor: float
    phrases: tuple[str, ...]
    """Names for it in a title; each starts with its article."""
    sentence: str
    pictures: tuple[str, ...]
    """The kinds of picture that are slightly more frequent for it."""
    nights: tuple[int, int] = (2, 7)
    """Minimum and maximum number of nights."""


MARKETS = {"France": 0.35, "Italy": 0.2, "United Kingdom": 0.18, "Spain": 0.15, "Germany": 0.12}
CHANNELS = {"newsletter": 0.4, "search": 0.3, "friend": 0.2, "advertisement": 0.1}

# Price of a stay in the country relative to one in Italy.
COUNTRIES = {
    "Italy": 1.0,
    "France": 1.05,
    "Spain": 0.9,
    "Greece": 0.95,
    "Portugal": 0.85,
    "Morocco": 0.8,
    "United Kingdom": 1.1,
    "Austria": 1.05,
    "Thailand": 1.6,
    "Indonesia": 1.7,
    "Mauritius": 2.1,
    "Maldives": 2.6,
}

# Within a country: 'region with its preposition | landscapes'.
_REGIONS = {
    "Italy": (
        "in Tuscany | country city",
        "in Sicily | sea",
        "in Sardinia | sea",
        "in Rome | city",
        "in Venice | city",
        "on the Amalfi Coast | sea",
        "in Apulia | sea country",
        "on Lake Garda | country",
        "in the Dolomites | mountain snow",
    ),
    "France": (
        "in Paris | city",
        "in Provence | country",
        "on the French Riviera | sea",
        "in the French Alps | mountain snow",
        "in Corsica | sea mountain",
        "in Normandy | country",
        "in Bordeaux | city country",
        "in Alsace | country",
    ),
    "Spain": (
        "in Barcelona | city",
        "in Mallorca | sea",
        "in Andalusia | country city",
        "in Tenerife | sea mountain",
        "in Madrid | city",
        "in Ibiza | sea",
    ),
    "Greece": (
        "in Crete | sea",
        "in Santorini | sea",
        "in Athens | city",
        "in Rhodes | sea",
        "in Mykonos | sea",
        "in Corfu | sea",
    ),
    "Portugal": (
        "in Lisbon | city",
        "in the Algarve | sea",
        "in Madeira | sea mountain",
        "in the Douro Valley | country",
    ),
    "Morocco": ("in Marrakech | city country", "in Agadir | sea", "in Essaouira | sea city"),
    "United Kingdom": (
        "in London | city",
        "in the Cotswolds | country",
        "in the Scottish Highlands | mountain",
    ),
    "Austria": ("in Tyrol | mountain snow", "in Vienna | city", "in Salzburg | city mountain snow"),
    "Thailand": ("in Phuket | sea", "in Koh Samui | sea", "in Bangkok | city"),
    "Indonesia": ("in Bali | sea country", "in Lombok | sea mountain"),
    "Mauritius": ("in Grand Baie | sea", "in Le Morne | sea mountain"),
    "Maldives": ("on Malé Atoll | sea",),
}


def _region(country: str, line: str) -> Region:
    place, landscapes = line.split(" | ")
    name = place.split(" ", 1)[1].removeprefix("the ")
    return Region(country, name, place, frozenset(landscapes.split()))


REGIONS = tuple(_region(country, line) for country, lines in _REGIONS.items() for line in lines)

_SEA, _CITY, _COUNTRY = frozenset({"sea"}), frozenset({"city"}), frozenset({"country"})
_MOUNTAIN, _SNOW = frozenset({"mountain"}), frozenset({"snow"})
_ANYWHERE = _SEA | _CITY | _COUNTRY | _MOUNTAIN

# fmt: off
CATEGORIES = (
    Category("beach resort", _SEA, 13, 140, 0.7, 1.0,
             ("a beach resort", "a resort by the sand", "a seaside hideaway"),
             "Days begin with a swim and end with your feet in the sand.", ("beach", "swimming_pool")),
    Category("city break", _CITY, 14, 60, 0.2, 0.7,
             ("a city break", "a weekend of museums and markets", "an urban escape"),
             "Shops, galleries and late dinners are all within walking distance.",
             ("old_town", "modern_architecture"), (2, 3)),
    Category("ski stay", _SNOW, 6, 5, 1.2, 1.2,
             ("a ski stay", "a ski holiday", "a few days on the slopes"),
             "Lifts start next door and the ski room keeps your boots warm.", ("snowy_mountain", "bedroom")),
    Category("spa retreat", _ANYWHERE, 9, 330, 0.3, 0.9,
             ("a spa retreat", "a wellness break", "a few days of rest and treatments"),
             "A team of therapists takes care of you from morning to night.", ("spa", "swimming_pool")),
    Category("country house", _COUNTRY, 8, 110, 0.3, 0.8,
             ("a country house", "a restored farmhouse", "a manor among the fields"),
             "Neighbours are few and the kitchen garden supplies the table.", ("garden", "forest")),
    Category("boutique hotel", _CITY | _COUNTRY | _SEA, 11, 90, 0.1, 1.0,
             ("a boutique hotel", "a small design hotel", "a hotel with a dozen rooms"),
             "A handful of rooms, each furnished by hand, and hosts who know your name.",
             ("bedroom", "modern_architecture")),
    Category("family club", _SEA | _MOUNTAIN, 7, 130, 0.5, 1.1,
             ("a family club", "a holiday club", "a club for all ages"),
             "Children have their own programme, and parents have their own hours.",
             ("swimming_pool", "restaurant")),
    Category("villa rental", _SEA | _COUNTRY, 7, 120, 0.5, 1.5,
             ("a villa to yourselves", "a private villa", "a villa with its own staff"),
             "The whole house is yours, with a cook on request.", ("swimming_pool", "garden")),
    Category("cruise", _SEA, 5, 40, 0.3, 1.6,
             ("a cruise", "a voyage under sail", "some days at sea"),
             "A new port every morning, and you unpack only once.", ("harbour", "beach")),
    Category("golf stay", _COUNTRY | _SEA, 4, 80, 0.3, 1.1,
             ("a golf stay", "a golf break", "a few rounds on the greens"),
             "Green fees for two courses are part of the price.", ("garden", "castle")),
    Category("gourmet weekend", _COUNTRY | _CITY, 6, 300, 0.4, 0.9,
             ("a gourmet weekend", "a weekend for food lovers", "a tasting escape"),
             "The chef cooks a menu of seven courses on your first evening.",
             ("restaurant", "castle"), (2, 3)),
    Category("hiking trip", _MOUNTAIN | _COUNTRY, 5, 150, 0.6, 0.6,
             ("a hiking trip", "a walking holiday", "a trek from lodge to lodge"),
             "A guide leads the way and your bags travel ahead of you.", ("forest", "snowy_mountain")),
    Category("guided tour", _CITY | _COUNTRY, 5, 70, 0.2, 1.2,
             ("a guided tour", "a tour in a small group", "a journey with a local guide"),
             "A historian opens doors that are closed to other visitors.", ("old_town", "castle")),
)
# fmt: on

AMENITIES = (
    "half board",
    "breakfast in bed",
    "a kids' club",
    "late check-out",
    "airport transfers",
    "a wine tasting",
    "a couples' massage",
    "free cancellation",
    "yoga at sunrise",
    "bicycles on loan",
    "a room upgrade",
    "live music",
)

# The kinds of picture, and the sentence that a quarter of the texts have about theirs.
PICTURES = {
    "swimming_pool": "The pool is long enough for serious swimmers.",
    "beach": "The shore is a short walk away.",
    "bedroom": "Bedrooms are large and quiet.",
    "restaurant": "Tables are set on a candle-lit terrace.",
    "spa": "There is a steam bath below the house.",
    "old_town": "Cobbled lanes start at the door.",
    "snowy_mountain": "Snow stays on the peaks until May.",
    "forest": "Tall trees surround the house.",
    "modern_architecture": "Glass and concrete give every space its light.",
    "garden": "Roses and lavender grow along the paths.",
    "harbour": "Fishing boats come and go below the windows.",
    "castle": "The walls are five hundred years old.",
}
# All other kinds can be photographed in any region.
PICTURE_LANDSCAPES = {"beach": _SEA, "harbour": _SEA, "snowy_mountain": _SNOW | _MOUNTAIN}

# Second kinds that a photo of a kind may show: behind it, through its window or in front of it.
PICTURE_COMPANIONS = {
    "swimming_pool": ("garden", "modern_architecture", "forest", "beach", "snowy_mountain", "old_town", "restaurant"),
    "beach": ("harbour", "forest", "old_town", "castle", "modern_architecture", "restaurant", "swimming_pool"),
    "bedroom": ("beach", "garden", "snowy_mountain", "forest", "harbour", "old_town", "swimming_pool", "castle"),
    "restaurant": ("beach", "garden", "snowy_mountain", "harbour", "old_town", "castle", "modern_architecture"),
    "spa": ("forest", "snowy_mountain", "garden", "beach", "swimming_pool"),
    "old_town": ("castle", "snowy_mountain", "harbour", "garden", "restaurant"),
    "snowy_mountain": ("forest", "castle", "old_town", "modern_architecture", "restaurant", "spa"),
    "forest": ("castle", "snowy_mountain", "modern_architecture", "garden", "spa"),
    "modern_architecture": ("garden", "swimming_pool", "forest", "snowy_mountain", "harbour", "restaurant"),
    "garden": ("castle", "forest", "old_town", "snowy_mountain", "swimming_pool", "restaurant", "bedroom"),
    "harbour": ("old_town", "castle", "snowy_mountain", "forest", "modern_architecture", "beach", "restaurant"),
    "castle": ("garden", "forest", "snowy_mountain", "old_town", "swimming_pool", "harbour"),
}

HOUSES = ("Hotel", "Casa", "Maison", "Villa", "Palazzo", "The", "Domaine", "Residence")
NAMES = (
    "Aurora", "Belvedere", "Miramar", "Rosalba", "Clementine", "Solenne", "Marlow", "Altair", "Esperanza",
    "Fontana", "Juniper", "Lanterna", "Odette", "Peregrine", "Saffron", "Valmont",
)  # fmt: skip
CLOSINGS = (
    "Members pay {discount} % less than the public price.",
    "Our team spent a night here and would go back tomorrow.",
    "Only a few rooms are left at this price.",
    "Dates are flexible until the end of the season.",
    "We negotiated this rate for members alone.",
)
