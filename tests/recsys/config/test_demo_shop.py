from datetime import datetime

import pytest
import yaml
from pydantic import ValidationError

from recsys.config.demo_shop import DemoShopSettings


def test_settings_are_read_from_yaml():
    text = "{seed: 3, users: 100, ends_at: 2026-02-01T00:00:00Z, picture_taste_share: 0.0}"
    settings = DemoShopSettings(**yaml.safe_load(text))
    assert settings.ends_at.isoformat() == "2026-02-01T00:00:00+00:00"
    assert settings.picture_taste_share == 0


@pytest.mark.parametrize(
    "values",
    [{"user": 100}, {"users": "100"}, {"picture_taste_share": 1.1}, {"ends_at": datetime(2026, 3, 1)}],
)
def test_unknown_key_wrong_type_and_instant_without_zone_are_errors(values):
    with pytest.raises(ValidationError):
        DemoShopSettings(**values)
