import pytest

from recsys.recommenders.words import words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hôtel & SPA, à 5 min du lac №5", ["hotel", "spa", "min", "du", "lac", "No5"]),  # as scikit-learn finds them
        ("Beach ☀️ hotel™", ["beach", "hotelTM"]),
        ("Größe Ёлка", ["große", "елка"]),
        ("京都温泉", ["京都", "都温", "温泉"]),
        ("海", ["海"]),
        ("ホテル・ガーデン", ["ホテ", "テル", "ガー", "ーデ", "デン"]),  # the dot separates
        ("ｶﾞﾗｽ", ["ガラ", "ラス"]),  # half-width letters are those of full width
        ("JR線 Café 2泊", ["jr", "線", "cafe", "泊"]),
        ("โรงแรม", ["โร", "รง", "งแ", "แร", "รม"]),
        ("ภูเก็ต", ["ภูเ", "เก็", "ก็ต"]),  # vowel and tone signs belong to the letter before them
        ("समुद्र तट, होटल।", ["समुद्र", "तट", "होटल"]),
        ("क\u094d\u200dष होटल", ["क्ष", "होटल"]),  # an invisible joiner is no part of a word
        ("বাংলা தமிழ்", ["বাংলা", "தமிழ்"]),
        ("", []),
        ("!? …", []),
    ],
)
def test_words_of_a_text(text: str, found: list[str]) -> None:
    assert words(text) == found
