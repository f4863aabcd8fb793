"""What Spark raises, in one line."""

import re

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException, PythonException

SPARK_ERRORS = (PySparkException, Py4JJavaError)
"""Errors that Spark raises; those without a class in Python, such as of a damaged file, are Py4JJavaError."""
_JAVA_CLASS = re.compile(r"^(org\.apache|java)\.[\w.$]*(Exception|Error): ")


def first_line(error: Exception) -> str:
    """Return what Spark's error states in one line, with its cause; the others are query plans and stack traces."""
    lines = str(error).strip().splitlines()
    if isinstance(error, PythonException):  # in a worker: the last line of its stack trace
        return lines[-1]
    stated = lines[1].removeprefix(": ") if isinstance(error, Py4JJavaError) and len(lines) > 1 else lines[0]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return " ".join(_JAVA_CLASS.sub("", " ".join(each.split())) for each in (stated, *causes[-1:])).rstrip(";")
