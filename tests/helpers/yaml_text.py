"""YAML without anchors, as people write it."""

import yaml


class _WrittenOut(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def yaml_text(content: object, **options: bool) -> str:
    """Return content as YAML without anchors: a value that occurs twice is written twice."""
    return yaml.dump(content, Dumper=_WrittenOut, **options)
