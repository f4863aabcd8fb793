"""A shop's files → a configuration: a sample of each file, a guess for each column, the YAML and SQL that follow.

`sampling` reads the start of files, `columns` says what their columns hold, `guesses` which column is what by `words`,
`whole_files` counts by Spark what a sample cannot tell, `writing` makes the text of the files. `recsys init` asks and
writes.
"""
