import pytest

from recsys.tables.paths import load


@pytest.mark.parametrize("name", ["a[b]", "a:[b]", "{a}:*?", "a\\b"])
def test_each_file_of_a_list_is_loaded_once_whatever_its_name(spark, tmp_path, name):
    (tmp_path / name).mkdir()
    files = [tmp_path / name / f"{number}.txt" for number in (1, 2, 3)]
    for file in files:
        file.write_text(f"{file.name}\n")
    for paths in ([tmp_path / name], files, files[:1]):
        rows = load(spark.read.format("text"), paths).collect()
        expected = [file.name for file in (files if len(paths) != 1 or paths[0].is_dir() else paths)]
        assert sorted(row["value"] for row in rows) == expected
