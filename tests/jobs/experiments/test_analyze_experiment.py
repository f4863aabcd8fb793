"""The summary of an experiment's phase, from a shop's folder."""

import json
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.experiments.analyze_experiment import comparison, phase_folder, summarise_phase
from recsys.config.settings import Settings
from recsys.errors import BusyError, ConfigurationError, EmptyInputError, InputError
from recsys.experiments.assignment import assign_all, side_names
from recsys.experiments.hashing import Split, code_units
from recsys.experiments.phase_summary import PhaseSummary
from recsys.experiments.settings import ExperimentFile, Holdout
from recsys.instants import HOUR, to_micros
from recsys.logs.records import Assignment, Exposure, RecordedEvent, encode_event, encode_exposure
from recsys.storage.journal import leased
from recsys.storage.outputs import Outputs
from recsys.tables.experiments import EXPERIMENT_USERS
from recsys.tables.parts import read_arrow
from tests.helpers.small_shop import AS_OF, SmallShop, at, event, sale

START = AS_OF - timedelta(days=2)
KEY = "image-themes"


def experiment_file(**changes: Any) -> ExperimentFile:
    """Return a file with one experiment in half of a layer, at coverage 0.6."""
    variants = [{"key": key, "weight": 0.5, "policy": "meta"} for key in ("control", "themes")]
    experiment = {
        "key": KEY,
        "status": "running",
        "phase": 3,
        "start": START,
        "end": AS_OF,
        "layer": {"name": "home", "ranges": [[0.0, 0.5]]},
        "coverage": 0.6,
        "variants": variants,
        "analysis": {"primary": [{"name": "bought", "type": "mean", "column": "purchases"}], "segments": ["country"]},
        **changes,
    }
    layers = {"home": {"seed": "layer:home:"}}
    experiments = {"layers": layers, "experiments": [experiment]}
    return ExperimentFile.model_validate({"schema_version": 1, "default": {"policy": "meta"}, **experiments})


def assigned(users: Sequence[str], file: ExperimentFile) -> dict[str, str]:
    """Return the variant of each user in the experiment."""
    (experiment,) = file.experiments
    indices = assign_all(experiment, users, file.layers).tolist()
    return {user: side_names(experiment)[index] for user, index in zip(users, indices, strict=True) if index >= 0}


USERS = assigned([f"u{number}" for number in range(60)], experiment_file())


def page(user: str, variant: str, hours: float = -40) -> bytes:
    assignment = Assignment(KEY, 3, variant, 17, "assigned", "ab12")
    shown = [(0, 0.5), (1, 0.25)]
    instant = to_micros(at(hours))
    exposure = Exposure(instant, f"r-{user}", user, "home", "meta", "3", "snap", "none", 10, shown, ["s1", "s2"])
    return encode_exposure(exposure._replace(attributes={"country": "DE"}, assignment=assignment))


def page_of(user: str, experiment: str | None, reason: str | None) -> bytes:
    """Return a page of a user in a holdout, or, without an experiment, outside of all."""
    line = json.loads(page(user, "holdout"))
    phase, variant = (0, "holdout") if experiment else (None, None)
    line |= {"experiment": experiment, "phase": phase, "variant": variant, "reason": reason, "event_id": f"e-{user}"}
    return json.dumps(line).encode() + b"\n"


def deliver(folder: Path, log: str, lines: Sequence[bytes]) -> None:
    (folder / log).mkdir(parents=True, exist_ok=True)
    (folder / log / "a.jsonl").write_bytes(b"".join(lines))


def shop_in(folder: Path) -> Settings:
    """Write a shop in which each user buys once; only purchases of users in control are recorded by the service."""
    shop = SmallShop(folder)
    purchases = [event(user, "s1", -39, "purchase", revenue=5.0) for user in USERS]
    shop.write([sale("s1"), sale("s2")], [*purchases, event("u-else", "s1", -30), event(None, "s1", -30)])
    settings = shop.settings()
    purchased = to_micros(at(-39))
    recorded = [
        RecordedEvent(user, "s1", "purchase", purchased, purchased + HOUR, 5.0, f"r-{user}")
        for user, variant in USERS.items()
        if variant == "control"
    ]
    deliver(Path(settings.folder), "recorded_events", [encode_event(each) for each in recorded])
    deliver(Path(settings.folder), "exposures", [page(user, variant) for user, variant in USERS.items()] * 2)
    return settings


@pytest.fixture(scope="module")
def settings(spark, tmp_path_factory) -> Settings:
    return shop_in(tmp_path_factory.mktemp("analysed"))


@pytest.fixture(scope="module")
def summary(settings) -> PhaseSummary:
    return summarise_phase(settings, experiment_file(), KEY, to_micros(AS_OF))


def test_users_and_purchases_are_summed_by_variant(summary):
    n = {variant: list(USERS.values()).count(variant) for variant in ("control", "themes")}
    assert n["control"] != n["themes"]
    for variant, users in n.items():
        sums = summary.up_to(AS_OF.date(), variant)
        assert (sums.n, sums.sums) == (users, {"purchases": users, "purchases != 0": users})
        assert sums.products == {("purchases",) * 2: users, ("purchases",) * 3: users}
        assert summary.up_to(AS_OF.date(), variant, segment="country=DE") == sums


def held_out(share: float) -> ExperimentFile:
    """Return a file with two holdouts; no page of the first one was logged."""
    holdouts = [
        {"key": key, "seed": f"{key}:", "share": part, "serve": {"policy": "popularity"}}
        for key, part in (("earlier", 0.01), ("held", share))
    ]
    return ExperimentFile.model_validate({**experiment_file().model_dump(), "holdouts": holdouts}, strict=False)


def test_holdout_is_compared_with_all_other_users(spark, tmp_path):
    settings, file = shop_in(tmp_path), held_out(0.3)
    codes = {user: Split("held:").bucket(code_units(user)) for user in USERS}
    inside = {user for user, bucket in codes.items() if bucket < 3_000}
    pages = [page_of(user, "held", "holdout") for user in inside]
    pages += [page_of("e1", "earlier", "holdout"), page_of("", None, None), page_of("u-default", None, None)]
    shutil.rmtree(Path(settings.folder) / "exposures")
    others = [page(user, variant) for user, variant in USERS.items() if user not in inside]
    deliver(Path(settings.folder), "exposures", [*pages, *others])
    experiment = comparison(settings, file, "held", to_micros(AS_OF))
    assert (experiment.start, experiment.end) == (at(-40), AS_OF)
    found = summarise_phase(settings, file, "held", to_micros(AS_OF))
    assert found.health.users == {"holdout": len(inside), "outside": len(USERS) - len(inside) + 1}
    outside_by_hash = Split("held:").bucket(code_units("u-default")) >= 3_000
    assert (found.health.mismatches, found.health.jumpers) == (not outside_by_hash, 0)
    assert found.up_to(AS_OF.date(), "holdout").sums["purchases"] == len(inside)
    unseen = Holdout(key="unseen", seed="unseen:", share=0.1, serve=file.default)
    with pytest.raises(EmptyInputError, match="holdout 'unseen' has 0 logged pages"):
        comparison(settings, file.model_copy(update={"holdouts": (unseen,)}), "unseen", to_micros(AS_OF))


def test_served_variants_agree_with_the_configuration(summary):
    assert summary.health.recomputed == len(USERS)
    assert summary.health.mismatches == 0
    assert summary.health.configuration_shas == {"ab12": len(USERS)}


def test_variants_served_by_another_configuration_are_mismatches(settings, summary):
    other = experiment_file(layer={"name": "home", "ranges": [[0.25, 0.5]]})
    found = summarise_phase(settings, other, KEY, to_micros(AS_OF)).health
    assert found.mismatches == len(USERS) - len(assigned(list(USERS), other))
    assert 0 < found.mismatches < len(USERS)


def test_users_are_written_to_a_table_of_the_phase(settings, summary):
    folder = phase_folder(settings, experiment_file().experiments[0])
    assert folder == Path(settings.folder) / "experiments/image-themes-3"
    users = read_arrow(Outputs.of(folder) / EXPERIMENT_USERS.name).to_pylist()
    attributed = {user["user_id"]: user["attributed_purchases"] for user in users}
    assert attributed == {user: float(variant == "control") for user, variant in USERS.items()}
    (analysis,) = (folder / "data").iterdir()  # those of earlier ones are gone
    assert {path.name for path in analysis.iterdir()} == {"experiment_users", "experiment_sums"}


def test_events_after_as_of_are_ignored(settings, summary):
    found = summarise_phase(settings, experiment_file(), KEY, to_micros(at(-39)))
    assert found.up_to(AS_OF.date(), "control").sums == {"purchases": 0, "purchases != 0": 0}


def test_experiment_without_users_is_an_error_that_says_what_to_check(settings, summary):
    with pytest.raises(EmptyInputError, match="experiment 'image-themes', phase 4, included 0 users from 2026-02-27"):
        summarise_phase(settings, experiment_file(phase=4), KEY, to_micros(AS_OF))


def test_unknown_experiment_is_an_error_that_names_the_known_ones(settings):
    with pytest.raises(ConfigurationError, match="experiment == 'themes', must be one of the file's: image-themes"):
        summarise_phase(settings, experiment_file(), "themes", to_micros(AS_OF))


def test_phase_is_analysed_by_one_process_at_a_time(settings, summary):
    folder = phase_folder(settings, experiment_file().experiments[0])
    with leased(folder), pytest.raises(BusyError):
        summarise_phase(settings, experiment_file(), KEY, to_micros(AS_OF))


def test_shop_without_logged_pages_is_an_error(spark, tmp_path):
    settings = SmallShop(tmp_path).write([sale("s1")], [event("ann", "s1", -1)]).settings()
    with pytest.raises(InputError, match="no page was logged"):
        summarise_phase(settings, experiment_file(), KEY, to_micros(AS_OF))
