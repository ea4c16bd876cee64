"""The shape of Istio's messages as the istioctl binary has it: its protobuf descriptors."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (  # type: ignore[import-untyped]  # has no types of its own
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

ROOTS = ("ProxyConfig", "WorkloadGroup")
_FILES = (
    "mesh/v1alpha1/proxy.proto",
    "networking/v1alpha3/workload_group.proto",
    "networking/v1alpha3/workload_entry.proto",
    "networking/v1alpha3/destination_rule.proto",
)
_IMAGE_FILE = "networking/v1beta1/proxy_config.proto"  # has a ProxyConfig of its own
_SCALARS = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
}

Table = dict[str, dict[str, str]]
Enums = dict[str, dict[str, int]]


def tables(binary: Path) -> tuple[Table, Enums]:
    """What `hybridmesh.istio.schema` should be: all that `ROOTS` are made of."""
    content = binary.read_bytes()
    messages: dict[str, DescriptorProto] = {}
    enums: dict[str, EnumDescriptorProto] = {}
    for path in _FILES:
        file = _descriptor(content, path)
        enums |= {enum.name: enum for enum in file.enum_type}
        for message in file.message_type:
            _collect(message, message.name, messages, enums)
    images = _descriptor(content, _IMAGE_FILE)
    messages |= {message.name: message for message in images.message_type if message.name == "ProxyImage"}
    table: Table = {}
    used: Enums = {}
    for root in ROOTS:
        _describe(root, messages, enums, table, used)
    return table, used


def _descriptor(content: bytes, path: str) -> FileDescriptorProto:
    """Go keeps a file's descriptor as its serialized form, which begins with its name."""
    start = content.index(b"\x0a" + bytes([len(path)]) + path.encode() + b"\x12")
    end = max(_ends(content, start))
    return FileDescriptorProto.FromString(content[start:end])


def _ends(content: bytes, position: int) -> Iterator[int]:
    """Where each of its fields ends: the last is its `syntax`, the twelfth."""
    number = 0
    while number < 12:
        number, wire_type = content[position] >> 3, content[position] & 7
        size, position = _varint(content, position + 1)
        position += size if wire_type == 2 else 0
        yield position


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _collect(
    message: DescriptorProto, name: str, messages: dict[str, DescriptorProto], enums: dict[str, EnumDescriptorProto]
) -> None:
    messages[name] = message
    enums |= {f"{name}.{enum.name}": enum for enum in message.enum_type}
    for nested in message.nested_type:
        _collect(nested, f"{name}.{nested.name}", messages, enums)


def _describe(
    name: str,
    messages: dict[str, DescriptorProto],
    enums: dict[str, EnumDescriptorProto],
    table: Table,
    used: Enums,
) -> None:
    table[name] = {}
    for field in messages[name].field:
        kind = _kind(field)
        modifier = ""
        if kind in messages and messages[kind].options.map_entry:
            modifier, kind = "map ", _kind(messages[kind].field[1])
        elif field.label == FieldDescriptorProto.LABEL_REPEATED:
            modifier = "repeated "
        elif field.HasField("oneof_index"):
            modifier = f"oneof {messages[name].oneof_decl[field.oneof_index].name} "
        table[name][field.name] = modifier + kind
        if kind in enums:
            used[kind] = {value.name: value.number for value in enums[kind].value}
        elif kind in messages and kind not in table:
            _describe(kind, messages, enums, table, used)


def _kind(field: FieldDescriptorProto) -> str:
    """The type's name without its package, whose parts are in lower case."""
    if field.type in _SCALARS:
        return _SCALARS[field.type]
    return ".".join(part for part in field.type_name.split(".") if part[:1].isupper())
