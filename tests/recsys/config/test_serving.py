import pytest
from pydantic import ValidationError

from recsys.config.serving import ServingSettings


def test_service_listens_only_on_the_local_machine_by_default():
    assert (ServingSettings().host, ServingSettings().port) == ("127.0.0.1", 50051)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 65_536},
        {"port": -1},
        {"port": "50051"},
        {"threads": 0},
        {"clock": "sundial"},
        {"poll_seconds": 0.0},
        {"replay_start_hours": -1.0},
        {"hots": "0.0.0.0"},
    ],
)
def test_wrong_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        ServingSettings(**wrong)
