from itertools import pairwise
from pathlib import Path

import pytest
from recommendations.v1 import recommendations_pb2 as pb

FOLDER = Path(pb.__file__).parent
PROTO = "recommendations/v1/recommendations.proto"


def test_committed_stubs_are_what_the_proto_generates(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed: pip install grpcio-tools")
    include = Path(protoc.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main(["protoc", f"-I{FOLDER.parents[1]}", f"-I{include}", *outputs, PROTO]) == 0
    generated = {file.name: file.read_text() for file in (tmp_path / PROTO).parent.iterdir()}
    assert generated == {file.name: file.read_text() for file in FOLDER.glob("*_pb2*.py*")}


def test_every_field_value_and_method_has_a_comment():
    lines = [line.strip() for line in (FOLDER / "recommendations.proto").read_text().splitlines()]
    declarations = ("rpc ", "message ", "service ", "enum ")
    for before, line in pairwise(lines):
        is_field = line.endswith(";") and " = " in line and not line.startswith(("syntax", "//"))
        if is_field or line.startswith(declarations):
            assert before.startswith("//"), f"no comment above {line!r}"
