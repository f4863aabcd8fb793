"""A shop's files → a configuration: a sample of each file, a guess for each column, the YAML and SQL that follow.

`sampling` reads parts of files, `catalogue_tables` of tables; `columns` says what their columns hold, `guesses` which
column has which of the `roles` by `words`, `shapes` what to do first with files that none fits, `whole_files` counts by
Spark what a sample cannot tell, `writing` makes the text of the files from a `plan`. `recsys init` asks and writes.
"""
