import re
from itertools import pairwise
from pathlib import Path

import pytest
from recommendations.v1 import admin_pb2, recommendations_pb2

FOLDER = Path(recommendations_pb2.__file__).parent
PROTOS = ["recommendations.proto", "admin.proto"]
DECLARATIONS = ("rpc ", "message ", "service ", "enum ")


def test_committed_stubs_are_what_the_protos_generate(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed: pip install grpcio-tools")
    include = Path(protoc.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    files = [f"recommendations/v1/{proto}" for proto in PROTOS]
    assert protoc.main(["protoc", f"-I{FOLDER.parents[1]}", f"-I{include}", *outputs, *files]) == 0
    generated = {file.name: file.read_text() for file in (tmp_path / "recommendations/v1").iterdir()}
    assert len(generated) == 3 * len(PROTOS)
    assert generated == {file.name: file.read_text() for file in FOLDER.glob("*_pb2*.py*")}


def test_every_proto_of_the_folder_is_tested():
    assert sorted(PROTOS) == sorted(file.name for file in FOLDER.glob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS)
def test_every_field_value_and_method_has_a_comment(proto):
    lines = [line.strip() for line in (FOLDER / proto).read_text().splitlines()]
    found = 0
    for before, line in pairwise(lines):
        is_field = re.search(r" = \d+( \[.*\])?;$", line) and not line.startswith("//")
        if is_field or line.startswith(DECLARATIONS):
            assert before.startswith("//"), f"no comment above {line!r}"
            found += 1
    assert found > 20


@pytest.mark.parametrize("file", [recommendations_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR], ids=lambda file: file.name)
def test_instants_are_timestamps_whose_names_end_in_time(file):
    fields = [field for message in file.message_types_by_name.values() for field in message.fields]
    instants = [field.name for field in fields if field.message_type and field.message_type.name == "Timestamp"]
    assert instants == [field.name for field in fields if field.name.endswith("_time")]


@pytest.mark.parametrize("file", [recommendations_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR], ids=lambda file: file.name)
def test_field_numbers_have_no_gap(file):
    for message in file.message_types_by_name.values():
        numbers = sorted(field.number for field in message.fields)
        assert numbers == list(range(1, len(numbers) + 1)), message.name
