from datetime import UTC, datetime

import pytest

from recsys.errors import ConfigurationError
from recsys.rules import RuleSet, load_rules
from tests.helpers.paths import CONF

KINDS = {"filter", "boost", "bury", "pin", "quota", "new_sales", "diversity"}


@pytest.fixture
def load(tmp_path):
    def load_text(text: str) -> RuleSet:
        path = tmp_path / "home.yaml"
        path.write_text(text)
        return load_rules(path)

    return load_text


@pytest.fixture
def refusal(load, tmp_path):
    """Return the lines of the message by which a text is refused, without the file's name."""

    def lines(text: str) -> list[str]:
        with pytest.raises(ConfigurationError) as error:
            load(text)
        first, *problems = str(error.value).splitlines()
        assert first == f"{tmp_path / 'home.yaml'}: {len(problems)} wrong:"
        return [problem.strip() for problem in problems]

    return lines


def of(*rules: str) -> str:
    return "schema_version: 1\nrules:\n" + "".join(f"- {rule}\n" for rule in rules)


@pytest.mark.parametrize("path", sorted((CONF / "rules").glob("*.yaml")), ids=lambda path: path.name)
def test_every_rules_file_of_the_project_is_valid(path):
    load_rules(path)


def test_example_has_every_kind_of_rule_and_changes_no_page_of_the_demo_shop():
    rules = load_rules(CONF / "rules" / "home.yaml").rules
    assert {rule.kind for rule in rules} == KINDS
    assert {rule.surface for rule in rules} == {"example"}


def test_instants_may_be_in_quotes_with_any_zone_or_dates(load):
    rule = load(
        of("{kind: bury, name: a, match: {x: y}, from: '2026-03-01', until: '2026-03-02T01:00:00+01:00'}")
    ).rules[0]
    assert (rule.since, rule.until) == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


def test_empty_list_of_rules_is_valid(load):
    assert load("schema_version: 1\nrules: []").rules == ()


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            "{kind: pinn, name: a}",
            "rules.0 == {'kind': 'pinn', 'name': 'a'}: Input tag 'pinn' found using 'kind' does not match any",
        ),
        ("{name: a}", "rules.0 == {'name': 'a'}: Unable to extract tag using discriminator 'kind'"),
        ("pin", "rules.0 == 'pin': Input should be a valid dictionary"),
        (
            "{kind: bury, match: {country: IT}}",
            "rules.0.bury.name == (missing): Field required",
        ),
        (
            "{kind: bury, name: No Italy, match: {country: IT}}",
            "rules.0.bury.name == 'No Italy': String should match pattern",
        ),
        (
            "{kind: bury, name: a, match: {country: NO}}",
            "rules.0.bury.match.country == False: is a boolean, as YAML reads NO, yes, on and the like",
        ),
        (
            "{kind: bury, name: a, match: {country: {$like: I}}}",
            "rules.0.bury.match.country.$like == 'I': must be one of $eq, $ne, $in",
        ),
        ("{kind: bury, name: a, match: {}}", "rules.0.bury.match == {}: must be a condition such as"),
        (
            "{kind: bury, name: a, match: {day: 2026-03-01}}",
            "rules.0.bury.match.day == 2026-03-01: is a date to YAML",
        ),
        ("{kind: bury, name: a}", "rules.0.bury.match == (missing): Field required"),
        (
            "{kind: bury, name: a, match: {x: y}, when: now}",
            "rules.0.bury.when == 'now': unknown key",
        ),
        (
            "{kind: bury, name: a, match: {x: y}, surface: ''}",
            "rules.0.bury.surface == '': String should have at least 1",
        ),
        (
            "{kind: bury, name: a, match: {x: y}, targeting: FR}",
            "rules.0.bury.targeting == 'FR': must be a condition such as",
        ),
        (
            "{kind: bury, name: a, match: {x: y}, from: 2026-03-01T00:00:00}",
            "rules.0.bury.from == 2026-03-01T00:00:00: instant 2026-03-01T00:00:00 has no zone",
        ),
        (
            "{kind: bury, name: a, match: {x: y}, from: today}",
            "rules.0.bury.from == 'today': instant 'today', must be a date or an instant such as 2026-03-01",
        ),
        (
            "{kind: bury, name: a, match: {x: y}, from: 2026-03-02T00:00:00Z, until: 2026-03-02T00:00:00Z}",
            "rules.0.bury.until == 2026-03-02T00:00:00+00:00: must be after",
        ),
        ("{kind: boost, name: a, match: {x: y}, places: 0}", "rules.0.boost.places == 0: Input should be greater"),
        (
            "{kind: boost, name: a, match: {x: y}, places: 2.0}",
            "rules.0.boost.places == 2.0: Input should be a valid int",
        ),
        ("{kind: pin, name: a, sale_ids: s-1, position: 1}", "rules.0.pin.sale_ids == 's-1': Input should be a valid"),
        (
            "{kind: pin, name: a, sale_ids: [1], position: 1}",
            "rules.0.pin.sale_ids.0 == 1: Input should be a valid str",
        ),
        ("{kind: pin, name: a, sale_ids: [], position: 1}", "rules.0.pin.sale_ids == []: must name one sale or more"),
        (
            "{kind: pin, name: a, sale_ids: [s, s], position: 1}",
            "rules.0.pin.sale_ids == ['s', 's']: must name one sale or",
        ),
        (
            "{kind: pin, name: a, sale_ids: [s], position: 0}",
            "rules.0.pin.position == 0: Input should be greater than or",
        ),
        (
            "{kind: quota, name: a, by: x}",
            "rules.0.quota == {'kind': 'quota', 'name': 'a', 'by': 'x'}: give 'at_least'",
        ),
        (
            "{kind: quota, name: a, at_most: 1}",
            "rules.0.quota == {'kind': 'quota', 'name': 'a', 'at_most': 1}: give 'match'",
        ),
        (
            "{kind: quota, name: a, by: x, match: {x: y}, at_most: 1}",
            "'at_most': 1}: give 'match' or 'by', one of the two",
        ),
        (
            "{kind: quota, name: a, by: x, at_least: 3, at_most: 2}",
            "'at_most': 2}: 'at_least' must not be above 'at_most'",
        ),
        (
            "{kind: quota, name: a, by: x, at_most: 0}",
            "rules.0.quota.at_most == 0: Input should be greater than or equal",
        ),
        (
            "{kind: diversity, name: a, by: x}",
            "rules.0.diversity == {'kind': 'diversity', 'name': 'a', 'by': 'x'}: give",
        ),
        ("{kind: diversity, name: a, at_most: 1}", "rules.0.diversity.by == (missing): Field required"),
        (
            "{kind: new_sales, name: a, share: 30}",
            "rules.0.new_sales.share == 30: Input should be less than or equal to 1",
        ),
        (
            "{kind: new_sales, name: a, share: .5, hours: 0}",
            "rules.0.new_sales.hours == 0: Input should be greater than 0",
        ),
    ],
    ids=lambda text: text[:60],
)
def test_broken_rule_is_refused_with_key_value_and_rule(refusal, rule, problem):
    [line] = refusal(of(rule))
    assert problem in line
    assert line.startswith("rules.0")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules: []", "schema_version == (missing): Field required"),
        ("schema_version: 2\nrules: []", "schema_version == 2: Input should be 1"),
        ("schema_version: '1'\nrules: []", "schema_version == '1': Input should be 1"),
        ("schema_version: 1", "rules == (missing): Field required"),
        ("schema_version: 1\nrules: {a: b}", "rules == {'a': 'b'}: Input should be a valid tuple"),
        ("schema_version: 1\nrules:", "rules == None: Input should be a valid tuple"),
        ("schema_version: 1\nrules: []\nrule: []", "rule == []: unknown key; did you mean 'rules'?"),
    ],
)
def test_broken_file_is_refused_with_key_value_and_rule(refusal, text, problem):
    [line] = refusal(text)
    assert line.startswith(problem)


def test_all_problems_are_listed_including_duplicate_names(refusal):
    bury = "{kind: bury, name: a, match: {x: y}}"
    assert refusal(of(bury, "{kind: bury, name: b, match: {x: NO, y: {$gt: z}}}", bury, "{kind: pin, name: b}")) == [
        "rules.1.bury.match.x == False: is a boolean, as YAML reads NO, yes, on and the like; a value is text or a "
        "number: put it in quotes",
        "rules.1.bury.match.y.$gt == 'z': must be a number: only numbers are compared",
        "rules.3.pin.sale_ids == (missing): Field required",
        "rules.3.pin.position == (missing): Field required",
        "rules.2.name == 'a': must be no other rule's name, rules.0 has it",
        "rules.3.name == 'b': must be no other rule's name, rules.1 has it",
    ]
    assert refusal(of(bury, bury)) == ["rules.1.name == 'a': must be no other rule's name, rules.0 has it"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not readable as YAML"),
        ("- a", "holds list, must hold keys and values"),
        ("", "holds NoneType, must hold keys and values"),
        (of("{kind: filter, name: a, match: {x: y}, match: {x: z}}"), "key 'match' stands twice"),
        (of("{kind: filter, name: a, match: {x: {$ne: y, $ne: z}}}"), "key '$ne' stands twice"),
    ],
)
def test_text_without_keys_or_with_a_duplicate_key_is_refused(load, tmp_path, text, problem):
    with pytest.raises(ConfigurationError, match=r"home\.yaml") as error:
        load(text)
    assert problem in str(error.value)


def test_missing_or_binary_file_is_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, problem in [("absent.yaml", "does not exist"), ("binary.yaml", "is not readable as YAML")]:
        with pytest.raises(ConfigurationError, match=f"{name} {problem}"):
            load_rules(tmp_path / name)


def test_fingerprint_depends_on_the_meaning_of_rules_and_not_on_their_layout(load):
    rule, pin = "{kind: bury, name: a, match: {x: y}}", "{kind: pin, name: b, sale_ids: [s], position: 1}"
    first = load(of(rule, pin)).fingerprint
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")
    assert load("# staff\n" + of("{match: {x: y},   name: a, kind: bury, surface: null}", pin)).fingerprint == first
    others = [
        of(pin, rule),
        of(rule),
        of("{kind: filter, name: a, match: {x: y}}", pin),
        of("{kind: bury, name: a, match: {x: z}}", pin),
        of("{kind: bury, name: a, match: {x: y}, from: 2026-03-01T00:00:00Z}", pin),
    ]
    assert len({load(text).fingerprint for text in others} | {first}) == 6
