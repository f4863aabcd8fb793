"""The sentences of reasons, in the words of one shop."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from recsys.config.serving import PageSettings
from recsys.errors import ConfigurationError
from serving.answers.reason_texts import DETAIL, Languages, ReasonTexts
from tests.helpers.snapshots import SALES

SLEEVES = [replace(sale, attributes={"colour": "red", "device_size": "13"}) for sale in SALES]
LISTED = [
    replace(SALES[0], attributes=dict.fromkeys(["d", "c", "b", "a"], "x")),
    replace(SALES[1], attributes={"d": "y"}),
]


def texts(sales=SLEEVES, n_visits: int | None = 7, **own: str) -> ReasonTexts:
    wording = Languages(PageSettings(reason_texts=own)).wording("en", n_visits != 0)
    return ReasonTexts(SimpleNamespace(sales=sales), wording)


def sentence(reason: str, *arguments, **others) -> str:
    return texts(*arguments, **others).reason(reason)[1]


def test_attributes_are_those_of_the_shop():
    assert texts().reason("content_metadata") == ("content_metadata", "Matches your taste in colour and device size")
    assert sentence("taste_metadata", LISTED) == "Matches your taste in d, a and b"  # the most frequent three
    nothing = [replace(sale, attributes={}) for sale in SALES]
    assert sentence("taste_metadata", nothing) == "In your usual price range"


@pytest.mark.parametrize(
    ("reason", "with_visits", "without_visits"),
    [
        ("collaborative_lift", "Like sales you looked at", "Like sales you bought"),
        ("taste_text", "Described like sales you looked at", "Described like sales you bought"),
        ("content_images/pool", "Because you looked at pool", "Like what you bought: pool"),
        ("price_gap", "In the price range you look at", "In your usual price range"),
        ("popularity", "Popular right now", "Popular right now"),
    ],
)
def test_shop_without_visits_speaks_of_what_was_bought(reason, with_visits, without_visits):
    assert sentence(reason) == sentence(reason, n_visits=None) == with_visits
    assert sentence(reason, n_visits=0) == without_visits


def test_shop_may_have_sentences_of_its_own():
    own = {"als": "Für Sie", "content_metadata": "Ihr {attributes}", DETAIL: "Wegen {detail}: 100 % {price}"}
    assert sentence("als", **own) == "Für Sie"
    assert sentence("content_metadata", **own) == "Ihr colour and device size"
    assert sentence("content_images/pool {attributes}", **own) == "Wegen pool {attributes}: 100 % {price}"
    assert sentence("popularity", **own) == "Popular right now"
    assert sentence("moon_phase", **own) == "Chosen for you"


LANGUAGES = Languages(PageSettings())


def test_every_language_that_comes_along_has_every_sentence_with_the_same_gaps():
    assert LANGUAGES.names == ["de", "en", "es", "fr"]
    for has_visits in (True, False):
        english = LANGUAGES.wording("en", has_visits)
        for language in LANGUAGES.names:
            wording = LANGUAGES.wording(language, has_visits)
            assert wording.keys() == english.keys(), language
            for kind, text in wording.items():
                gaps = [gap for gap in ("{attributes}", "{detail}") if gap in english[kind]]
                assert [gap for gap in ("{attributes}", "{detail}") if gap in text] == gaps, (language, kind)


def test_languages_differ():
    texts = [LANGUAGES.wording(language, True)["popularity_day"] for language in ("en", "fr", "de", "es")]
    assert texts == ["Popular today", "Populaire aujourd’hui", "Heute beliebt", "Popular hoy"]
    assert LANGUAGES.wording("fr", False)["towers"] == "Dans l’esprit de vos derniers achats"


@pytest.mark.parametrize(
    ("asked", "chosen"), [("fr", "fr"), ("fr-CH", "fr"), ("de_AT", "de"), ("ES", "es"), ("it", "en"), ("", "en")]
)
def test_language_is_the_one_asked_for_without_its_region_or_the_shops(asked, chosen):
    assert LANGUAGES.chosen(asked) == chosen


def test_shops_files_replace_sentences_and_add_languages(tmp_path):
    (tmp_path / "fr.yaml").write_text("popularity: En vogue\nwithout_visits: {towers: Toujours vous}\n")
    (tmp_path / "it.yaml").write_text("popularity: Di moda\nsame_brand: La sua marca\n")
    own = Languages(PageSettings(language="it", wording=str(tmp_path), reason_texts={"open": "Aperta"}))
    assert own.names == ["de", "en", "es", "fr", "it"]
    assert own.wording("fr", True)["popularity"] == "En vogue"
    assert own.wording("fr", True)["popularity_day"] == "Populaire aujourd’hui"
    assert own.wording("fr", False)["towers"] == "Toujours vous"
    italian = own.wording("it", False)
    assert [italian[kind] for kind in ("popularity", "same_brand", "open")] == ["Di moda", "La sua marca", "Aperta"]
    assert italian["popularity_day"] == "Popular today"
    assert own.chosen("pt") == "it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("populariy: x\n", r"fr.yaml: populariy is no kind of evidence; did you mean 'popularity'\?"),
        ("popularity: 3\n", r"fr.yaml: 1 wrong:\n  sentences.popularity == 3"),
        ("- a\n", "fr.yaml holds list, must hold keys and values"),
    ],
)
def test_file_of_sentences_that_is_wrong_is_refused(tmp_path, text, message):
    (tmp_path / "fr.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Languages(PageSettings(wording=str(tmp_path)))


def test_language_without_sentences_and_folder_without_files_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"serving\.pages\.language == 'it', must be one of de, en, es, fr"):
        Languages(PageSettings(language="it"))
    with pytest.raises(ConfigurationError, match="has no file of sentences: must hold one per language"):
        Languages(PageSettings(wording=str(tmp_path)))
