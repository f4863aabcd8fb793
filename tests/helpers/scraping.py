"""The service's metrics as Prometheus reads them."""

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Return the samples by name, followed by the values of their labels in the order of the labels' names."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        text = response.read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for sample in samples
        if not sample.name.endswith("_created")
    }


def answers(samples: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return the number of pages by fallback level and policy."""
    return {key[1:3]: value for key, value in samples.items() if key[0] == "recsys_answers_total"}
