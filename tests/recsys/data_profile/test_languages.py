import pytest

from recsys.data_profile.languages import language_of


@pytest.mark.parametrize(
    ("title", "language"),
    [
        ("Hotel by the sea with a view of the bay", "en"),
        ("Séjour au bord de la mer avec vue sur la baie", "fr"),
        ("Hotel am Meer mit Blick auf die Bucht für zwei", "de"),
        ("Hotel en el centro con vistas al mar", "es"),
        ("Una notte in un hotel con vista della baia", "it"),
        ("Het hotel aan de zee met een tuin", "nl"),
        ("Um hotel na praia com vista do mar para dois", "pt"),
    ],
)
def test_language_is_told_by_its_frequent_words(title, language):
    assert language_of([title] * 30) == language


@pytest.mark.parametrize(
    "titles",
    [
        [],
        ["Sony WH-1000", "Lego 42100"] * 100,  # no word of any language
        ["Villa in Toscana"] * 100,  # a word of English, German, Italian and Dutch
        ["Hotel by the sea with a view"] * 2,  # too few words
        ["The house of the sea", "Das Haus und die See"] * 20,
    ],
)
def test_titles_that_do_not_tell_have_no_language(titles):
    assert language_of(titles) is None
