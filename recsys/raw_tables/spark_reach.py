"""What this session of Spark can read: formats that need a connector, stores that need a Hadoop file system."""

from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession

from recsys.spark_errors import SPARK_ERRORS

_NO_CONNECTOR = ("[DATA_SOURCE_NOT_FOUND]", "[AVRO_DATA_SOURCE_NOT_ENABLED]")
_NO_COMMON_TYPE = "[CANNOT_MERGE_SCHEMAS]"
_NO_FILE_SYSTEM = ("No FileSystem for scheme", "UnsupportedFileSystemException")


def lacks_connector(error: Exception) -> bool:
    """Return whether Spark failed because it has no connector for a format."""
    return any(text in str(error) for text in _NO_CONNECTOR)


def lacks_file_system(error: Exception) -> bool:
    """Return whether Spark failed because it has no file system for the scheme of a URL, such as S3AFileSystem."""
    text = str(error)
    is_absent_class = "ClassNotFoundException" in text and "FileSystem not found" in text
    return is_absent_class or any(each in text for each in _NO_FILE_SYSTEM)


def if_spark_can(load: Callable[[], DataFrame]) -> DataFrame | None:
    """Return what Spark loads; None if it lacks the connector, the file system, or a type for all files of a column.

    Other errors are raised.
    """
    try:
        frame = load()
        frame.schema  # noqa: B018  a remote session looks for the files only now
    except SPARK_ERRORS as error:
        if lacks_connector(error) or lacks_file_system(error) or _NO_COMMON_TYPE in str(error):
            return None
        raise
    return frame


def spellings(url: str) -> list[str]:
    """Return the URLs under which Spark may know a place: Hadoop's scheme of S3 is s3a, and s3 on some platforms."""
    scheme, _, rest = url.partition("://")
    if scheme in ("s3", "s3a"):
        return [url, f"{'s3a' if scheme == 's3' else 's3'}://{rest}"]
    return [url]


def spelling_for_spark(spark: SparkSession, url: str) -> str | None:
    """Return a URL as Spark can read it; None if it has no file system for its scheme."""
    for spelling in spellings(url):
        try:
            spark.read.format("binaryFile").load(spelling).schema  # noqa: B018
        except SPARK_ERRORS as error:
            if lacks_file_system(error):
                continue
            raise
        return spelling
    return None
