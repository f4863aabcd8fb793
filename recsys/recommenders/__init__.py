"""The recommenders, and the list of them that all callers share."""

from pydantic import Field

from recsys.recommenders.base import Model, Recommender, Statistics
from recsys.recommenders.collaborative import CONDITIONAL, LIFT, Collaborative, CollaborativeSettings
from recsys.recommenders.content import (
    IMAGES,
    Content,
    ImageThemesSettings,
    MetadataSettings,
    TextSettings,
    content_images,
    content_metadata,
    content_text,
)
from recsys.recommenders.context import ContextSettings, context_features
from recsys.recommenders.further import Further, FurtherSettings, further_evidence
from recsys.recommenders.popularity import Popularity, PopularitySettings
from recsys.recommenders.taste import Taste, TasteSettings
from recsys.recommenders.towers import Towers, TowersSettings, TowerWeights
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue

__all__ = ["OVER_PHOTOS", "Model", "Recommender", "RecommenderSettings", "Statistics", "recommenders", "tower_families"]


OVER_PHOTOS = (IMAGES, "taste_images")
"""Names of the recommenders that need photos."""


class RecommenderSettings(StepSettings):
    """Settings of each recommender; those named in `without` are left out."""

    popularity: PopularitySettings = PopularitySettings()
    popularity_day: PopularitySettings = PopularitySettings(half_life_days=0.5)
    popularity_month: PopularitySettings = PopularitySettings(half_life_days=14.0)
    collaborative: CollaborativeSettings = CollaborativeSettings()
    content_metadata: MetadataSettings = MetadataSettings()
    content_text: TextSettings = TextSettings()
    content_images: ImageThemesSettings = ImageThemesSettings()
    taste: TasteSettings = TasteSettings()
    towers: TowersSettings = TowersSettings()
    context: ContextSettings = ContextSettings()
    further: tuple[FurtherSettings, ...] = Field((), strict=False)
    """Kinds of evidence of the shop's own, see docs/recommenders.md."""
    without: tuple[str, ...] = Field((), strict=False)
    """Names of features to leave out."""


def recommenders(
    settings: RecommenderSettings, catalogue: Catalogue, towers: TowerWeights | None = None
) -> list[Recommender]:
    """Return the recommenders in use, in the order of the features of the meta-model.

    Recommenders over photos are left out where no photo of the shop has a theme.

    Args:
        settings: Of each recommender.
        catalogue: The sales.
        towers: What the towers learnt; without, there are none.
    """
    metadata = content_metadata(settings.content_metadata, catalogue)
    text = content_text(settings.content_text, catalogue)
    images = content_images(settings.content_images, catalogue)
    over_photos: list[Recommender] = [images, Taste(OVER_PHOTOS[1], settings.taste, catalogue, images)]
    everything: list[Recommender] = [
        Popularity(settings.popularity, catalogue, metadata),
        Popularity(settings.popularity_day, catalogue, metadata, "popularity_day"),
        Popularity(settings.popularity_month, catalogue, metadata, "popularity_month"),
        Collaborative(settings.collaborative, catalogue),
        Collaborative(settings.collaborative, catalogue, "collaborative_conditional", CONDITIONAL),
        Collaborative(settings.collaborative, catalogue, "collaborative_lift", LIFT),
        metadata,
        text,
        Taste("taste_metadata", settings.taste, catalogue, metadata),
        Taste("taste_text", settings.taste, catalogue, text),
        *(over_photos if catalogue.has_themes else []),
        *(
            [Towers(settings.towers, tower_families(settings, catalogue), towers)]
            if towers and settings.towers.enabled
            else []
        ),
        *context_features(settings.context, catalogue),
    ]
    further = further_evidence(settings.further, [each.name for each in everything])
    everything += [Further(evidence, catalogue) for evidence in further]
    return [recommender for recommender in everything if recommender.name not in settings.without]


def tower_families(settings: RecommenderSettings, catalogue: Catalogue) -> list[Content]:
    """Return the families of features that the towers read: attributes and price bands, and themes if there are any."""
    metadata = content_metadata(settings.content_metadata, catalogue)
    return [metadata, content_images(settings.content_images, catalogue)] if catalogue.has_themes else [metadata]
