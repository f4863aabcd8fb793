"""Render a chart by Helm, in a process of its own: python helm_render.py CHART, with a list of values as JSON on stdin.

Prints a JSON list: for each of the values, the texts of the templates, or the text of the error.
"""

import json
import sys

from helm_python import Chart, HelmError, lint

found = lint(sys.argv[1])
assert not found["errors"], found
chart, answers = Chart.load(sys.argv[1]), []
for values in json.load(sys.stdin):
    try:
        chart.validate_schema(values)
        answers.append(list(chart.render(values=values, name="recsys", namespace="shop").values()))
    except HelmError as error:
        answers.append(str(error))
print(json.dumps(answers))
