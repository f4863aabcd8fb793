import io

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from cli.tables.pages import print_top_sales
from recsys.console import TextConsole


def response(**changes) -> pb.GetTopSalesResponse:
    answer = pb.GetTopSalesResponse(
        policy="meta", model_version="3", snapshot="20260301T000000Z-1a2b3c4d", fallback_level=pb.FALLBACK_LEVEL_NONE
    )
    answer.answer_time.FromJsonString("2026-03-01T10:00:00Z")
    lines = [("alps", 0.1234, "12:05"), ("[red]rome[/red]", None, "10:59"), ("crete", 0.0005, "10:00")]
    for rank, (title, score, closes) in enumerate(lines, start=1):
        scored = {} if score is None else {"score": score, "probability": score}
        sale = answer.sales.add(rank=rank, sale_id=f"s{rank}", title=title, **scored)
        sale.reason_text = "Popular right now"
        sale.close_time.FromJsonString(f"2026-03-0{rank}T{closes}:00Z")
    answer.MergeFrom(pb.GetTopSalesResponse(**changes))
    return answer


def printed(answer: pb.GetTopSalesResponse, width: int = 120, user_id: str = "ann", explain: bool = False) -> str:
    console = TextConsole(file=io.StringIO(), width=width)
    print_top_sales(user_id, answer, console, explain)
    return console.file.getvalue()


def test_first_line_names_the_origin_of_the_page():
    text = " ".join(printed(response()).split())
    assert text.startswith("user ann · policy meta · model version 3 · snapshot 20260301T000000Z-1a2b3c4d")
    assert "· fallback none · 2026-03-01 10:00 UTC" in text


def test_row_shows_rank_sale_title_time_left_probability_and_why():
    rows = [line.split() for line in printed(response()).splitlines()]
    assert ["1", "s1", "alps", "2h", "5m", "12.34%", "Popular", "right", "now"] in rows
    assert ["2", "s2", "[red]rome[/red]", "24h", "59m", "–", "Popular", "right", "now"] in rows
    assert ["3", "s3", "crete", "2d", "0h", "0.05%", "Popular", "right", "now"] in rows


def test_photos_are_shown_by_file_name_if_any_sale_has_one():
    assert "photo" not in printed(response())
    answer = response()
    for sale, uri in zip(answer.sales, ["s3a://lake/photos/alps 1.jpg", "", "crete[b].png"], strict=True):
        sale.image_uri = uri
    header, *rows = printed(answer).splitlines()[-4:]
    assert header.split() == ["#", "sale", "title", "photo", "closes", "in", "probability", "why"]
    assert rows[0].split()[2:5] == ["alps", "alps", "1.jpg"]
    assert rows[1].split()[2:4] == ["[red]rome[/red]", "24h"]
    assert rows[1].index("24h 59m") == rows[0].index("2h 5m") - 2  # in its own column
    assert rows[2].split()[2:4] == ["crete", "crete[b].png"]
    assert "lake" not in printed(answer)


def test_long_titles_photos_and_reasons_are_folded_without_loss():
    answer = response()
    for sale in answer.sales:
        sale.title = "Villa in Toscana, five rooms and a pool near the sea"
        sale.image_uri = f"https://shop.example/photos/{'0123456789' * 4}.jpg"
        sale.reason_text = "Because you looked at pool · palm trees · villas"
    lines = printed(answer).splitlines()
    assert max(len(line) for line in lines) <= 120
    assert len(lines) == 2 + 3 * 3  # three lines per sale
    words = " ".join(lines).split()
    assert words.count("villas") == words.count("sea") == words.count("12.34%") * 3 == 3


def test_other_policies_have_scores_instead_of_probabilities():
    answer = response(policy="popularity")
    for sale in answer.sales:
        sale.ClearField("probability")
    text = printed(answer)
    assert "probability" not in text
    assert "0.123" in text


def test_fallback_and_shortfall_are_printed():
    text = printed(response(fallback_reason="New here.", shortfall_reason="Only 3 sales are open."))
    assert "New here." in text
    assert "Only 3 sales are open." in text


def test_rules_notes_and_the_session_are_printed():
    page = response(rules=["partner_week"], notes=["Rule 'fresh' could not be met."], uses_session=True)
    text = printed(page, width=200)
    assert "user ann · policy meta · with the session · model version 3" in text
    assert "Rule 'partner_week' changed this page." in text
    assert "Rule 'fresh' could not be met." in text
    assert "with the session" not in printed(response(), width=200)


def test_contributions_are_a_table_of_features_and_sales_with_the_words_of_the_model():
    answer = response()
    for sale, added in zip(
        answer.sales, [{"own_visits": 0.5, "popularity": -1.25}, {"own_visits": -0.75}, {}], strict=True
    ):
        for feature, log_odds in added.items():
            sale.contributions.add(feature=feature, log_odds=log_odds)
    lines = [" ".join(line.split()) for line in printed(answer, explain=True).splitlines()]
    table = lines.index("feature #1 #2 #3")
    assert lines[table + 1 : table + 3] == ["popularity -1.25 – –", "own_visits +0.50 -0.75 –"]  # the largest first
    assert "own_visits The user's own recent visits of this sale." in lines
    assert "log-odds" not in printed(answer)  # not asked for


def test_values_of_a_page_are_text():
    answer = response(notes=["\x1b[2J"], policy="meta\nforged line")
    for sale in answer.sales:
        sale.sale_id, sale.title, sale.reason_text = "promo[summer]\x1b]0;x\x07", "a\r\nb", "\u202ekcab"
    text = printed(answer, 200, user_id="u\x9b31m")
    assert all(character.isprintable() or character == "\n" for character in text)
    for shown in (r"promo[summer]\x1b]0;x\x07", r"a\r\nb", r"\u202ekcab", r"u\x9b31m", r"meta\nforged line"):
        assert shown in text


def test_empty_page_has_no_table():
    text = printed(pb.GetTopSalesResponse(shortfall_reason="No sale is open."), user_id="")
    assert "(anonymous)" in text
    assert "rank" not in text


@pytest.mark.parametrize("image_uri", ["", "s3a://photos/summer_of_2026_00042.jpg"])
@pytest.mark.parametrize("width", [40, 60, 80])
def test_narrow_terminal_shows_every_sale(width, image_uri):
    answer = response()
    answer.sales[0].image_uri = image_uri
    text = printed(answer, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert all(f"s{rank}" in text for rank in (1, 2, 3))
    assert "12.34%" in text
