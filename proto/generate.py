#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tables of common/wire from a FileDescriptorSet.

usage: generate.py DESCRIPTORS.pb METHODS.c FILES.c

METHODS.c  wire_methods[]: every method with its messages, its streaming and who may call it.
FILES.c    wire_files[], wire_symbols[], wire_extensions[]: what gRPC reflection answers from.

The wire format is read by hand, so that Python's standard library is enough. Whatever does not hold ends the build: a
method of ours without a role, a service that nobody gave a role, a Role enum that is not the one of common/wire/wire.h.
"""

import sys

ROLE_OPTION = 50817  # sentinel.options.v1.role
ROLE_ENUM = "sentinel.options.v1.Role"

# Numbers of sentinel.options.v1.Role and of enum wire_role.
ROLES = {
    "ROLE_UNSPECIFIED": 0,
    "ROLE_ANYONE": 1,
    "ROLE_KNOWN": 2,
    "ROLE_AGENT": 3,
    "ROLE_VIEWER": 4,
    "ROLE_OPERATOR": 5,
    "ROLE_ADMIN": 6,
    "ROLE_EXPORTER": 7,
}

# Services that are not ours carry no option; a package's row holds for all below it.
FOREIGN_ROLES = {
    "grpc.health": "ROLE_ANYONE",
    "grpc.reflection": "ROLE_KNOWN",
}


class Wrong(Exception):
    pass


# ---- wire format ----

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_varint(data, at):
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Wrong("the descriptor set ends inside a varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Wrong("a varint of more than ten bytes")


class Message:
    """The fields of one message: number -> [(wire type, value)]."""

    def __init__(self, data):
        self.data = data
        self.fields = {}
        at = 0
        while at < len(data):
            tag, at = read_varint(data, at)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise Wrong("field number 0")
            if kind == VARINT:
                value, at = read_varint(data, at)
            elif kind in (FIXED64, BYTES, FIXED32):
                size = {FIXED64: 8, FIXED32: 4}.get(kind)
                if size is None:
                    size, at = read_varint(data, at)
                if size > len(data) - at:
                    raise Wrong(f"field {number} is longer than its message")
                value = data[at : at + size]
                at += size
            else:
                raise Wrong(f"field {number} has wire type {kind}")
            self.fields.setdefault(number, []).append((kind, value))

    def values(self, number, kind):
        rows = self.fields.get(number, [])
        for found, _ in rows:
            if found != kind:
                raise Wrong(f"field {number} has wire type {found} where {kind} belongs")
        return [value for _, value in rows]

    def messages(self, number):
        return [Message(value) for value in self.values(number, BYTES)]

    def texts(self, number):
        return [value.decode("utf-8") for value in self.values(number, BYTES)]

    def text(self, number, default=None):
        rows = self.texts(number)
        if rows:
            return rows[-1]
        if default is None:
            raise Wrong(f"field {number} is missing")
        return default

    def number(self, number, default=0):
        rows = self.values(number, VARINT)
        return rows[-1] if rows else default


# ---- descriptors (field numbers of google/protobuf/descriptor.proto) ----


def join(scope, name):
    return f"{scope}.{name}" if scope else name


class Model:
    def __init__(self, data):
        files = Message(data).messages(1)
        self.files = sorted(files, key=lambda f: f.text(1))
        self.names = [f.text(1) for f in self.files]
        self.index = {name: i for i, name in enumerate(self.names)}
        self.symbols = {}  # full name -> index of its file
        self.messages = set()  # full names of messages
        self.extensions = {}  # (extended type, number) -> index of its file
        self.roles = None  # the Role enum as it was found
        self.methods = []
        if len(self.index) != len(self.files):
            raise Wrong("a file is there twice")
        for i, file in enumerate(self.files):
            self.add_file(i, file)

    def add_symbol(self, file, name):
        if name in self.symbols:
            raise Wrong(f"{name} is defined twice: {self.names[self.symbols[name]]}, {self.names[file]}")
        self.symbols[name] = file

    def add_file(self, i, file):
        package = file.text(2, "")
        for message in file.messages(4):
            self.add_message(i, package, message)
        for enum in file.messages(5):
            self.add_enum(i, package, enum)
        for service in file.messages(6):
            self.add_service(i, package, service)
        for extension in file.messages(7):
            self.add_extension(i, package, extension)

    def add_message(self, i, scope, message):
        name = join(scope, message.text(1))
        self.add_symbol(i, name)
        self.messages.add(name)
        for field in message.messages(2):
            self.add_symbol(i, join(name, field.text(1)))
        for oneof in message.messages(8):
            self.add_symbol(i, join(name, oneof.text(1)))
        for nested in message.messages(3):
            self.add_message(i, name, nested)
        for enum in message.messages(4):
            self.add_enum(i, name, enum)
        for extension in message.messages(6):
            self.add_extension(i, name, extension)

    def add_enum(self, i, scope, enum):
        name = join(scope, enum.text(1))
        self.add_symbol(i, name)
        values = {value.text(1): value.number(2) for value in enum.messages(2)}
        for value in values:
            self.add_symbol(i, join(scope, value))  # a sibling of its enum, as in C++
        if name == ROLE_ENUM:
            self.roles = values

    def add_extension(self, i, scope, extension):
        key = (absolute(extension.text(2)), extension.number(3))
        self.add_symbol(i, join(scope, extension.text(1)))
        if key in self.extensions:
            raise Wrong(f"extension {key[1]} of {key[0]} is defined twice")
        self.extensions[key] = i

    def add_service(self, i, scope, service):
        name = join(scope, service.text(1))
        self.add_symbol(i, name)
        for method in service.messages(2):
            self.add_symbol(i, join(name, method.text(1)))
            self.methods.append((name, method))


def absolute(type_name):
    if not type_name.startswith("."):
        raise Wrong(f"the type name {type_name} is not absolute")
    return type_name[1:]


# ---- roles ----


def check_role_enum(model):
    if model.roles is None:
        raise Wrong(f"there is no {ROLE_ENUM}")
    if model.roles != ROLES:
        raise Wrong(f"{ROLE_ENUM} is {model.roles}, but generate.py and enum wire_role have {ROLES}")


def role_of(service, method):
    """The name of the role that may call a method."""
    label = f"{service}.{method.text(1)}"
    options = method.messages(4)
    number = options[-1].number(ROLE_OPTION) if options else 0
    if number:
        for name, value in ROLES.items():
            if value == number:
                return name
        raise Wrong(f"{label}: no role has the number {number}")
    for package, name in FOREIGN_ROLES.items():
        if service.startswith(package + "."):
            return name
    if service.startswith("sentinel."):
        raise Wrong(f"{label} says no role: add `option (sentinel.options.v1.role) = ROLE_...;`")
    raise Wrong(f"{label}: this service has no role; add its package to FOREIGN_ROLES in generate.py")


# ---- C ----


def camel_to_lower(name):
    out = ""
    was_upper = True
    for c in name:
        is_upper = "A" <= c <= "Z"
        if is_upper and not was_upper:
            out += "_"
        out += c.lower()
        was_upper = is_upper
    return out


def descriptor_name(full_name):
    """What protoc-gen-c calls the descriptor of a message."""
    return "__".join(camel_to_lower(part) for part in full_name.split(".")) + "__descriptor"


def quoted(text):
    if not all(" " <= c <= "~" and c not in '"\\' for c in text):
        raise Wrong(f"{text!r} is no name")
    return f'"{text}"'


HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by proto/generate.py. */\n"


def methods_c(model):
    rows = []
    headers = set()
    for service, method in model.methods:
        types = [absolute(method.text(2)), absolute(method.text(3))]
        for name in types:
            if name not in model.messages:
                raise Wrong(f"{service}.{method.text(1)}: there is no message {name}")
            headers.add(model.names[model.symbols[name]])
        name = method.text(1)
        path = f"/{service}/{name}"
        flags = ["true" if method.number(n) else "false" for n in (5, 6)]
        cells = [quoted(path), quoted(service), quoted(name)]
        cells += ["&" + descriptor_name(t) for t in types]
        cells += flags + ["WIRE_" + role_of(service, method)]
        rows.append((path, "    { " + ",\n      ".join(cells) + " },\n"))
    if not rows:
        raise Wrong("there are no methods")
    rows.sort()

    out = HEAD + '#include "common/wire/tables.h"\n\n'
    for name in sorted(headers):
        out += f"#include {quoted(header_name(name))}\n"
    out += "\nconst struct wire_method wire_methods[] = {\n" + "".join(row for _, row in rows) + "};\n"
    out += f"const size_t wire_n_methods = {len(rows)};\n"
    return out


def header_name(proto):
    if not proto.endswith(".proto"):
        raise Wrong(f"{proto} does not end in .proto")
    return proto[: -len(".proto")] + ".pb-c.h"


def bytes_c(data):
    lines = []
    for at in range(0, len(data), 24):
        lines.append("    " + ",".join(str(b) for b in data[at : at + 24]) + ",\n")
    return "".join(lines)


def files_c(model):
    if len(model.files) > 0xFFFF:
        raise Wrong("too many files for a 16-bit index")
    out = HEAD + '#include "common/wire/tables.h"\n\n'
    table = ""
    for i, file in enumerate(model.files):
        imports = []
        for name in file.texts(3):
            if name not in model.index:
                raise Wrong(f"{model.names[i]} imports {name}, which is not in the set (--include_imports)")
            imports.append(str(model.index[name]))
        out += f"static const uint8_t file_{i}[] = {{\n{bytes_c(file.data)}}};\n"
        if imports:
            out += f"static const uint16_t imports_{i}[] = {{ {', '.join(imports)} }};\n"
        table += f"    {{ {quoted(model.names[i])}, {{ file_{i}, sizeof(file_{i}) }}, "
        table += f"{f'imports_{i}' if imports else 'NULL'}, {len(imports)} }},\n"
    out += f"\nconst struct wire_file wire_files[] = {{\n{table}}};\n"
    out += f"const size_t wire_n_files = {len(model.files)};\n"

    out += "\nconst struct wire_symbol wire_symbols[] = {\n"
    for name, file in sorted(model.symbols.items()):
        out += f"    {{ {quoted(name)}, {file} }},\n"
    out += f"}};\nconst size_t wire_n_symbols = {len(model.symbols)};\n"

    if not model.extensions:
        raise Wrong("there are no extensions, not even the role")
    out += "\nconst struct wire_extension wire_extensions[] = {\n"
    for (name, number), file in sorted(model.extensions.items()):
        out += f"    {{ {quoted(name)}, {number}, {file} }},\n"
    out += f"}};\nconst size_t wire_n_extensions = {len(model.extensions)};\n"
    return out


def main(argv):
    if len(argv) != 4:
        print("usage: generate.py DESCRIPTORS.pb METHODS.c FILES.c", file=sys.stderr)
        return 2
    try:
        with open(argv[1], "rb") as f:
            model = Model(f.read())
        check_role_enum(model)
        texts = [methods_c(model), files_c(model)]
    except (Wrong, UnicodeDecodeError) as e:
        print(f"generate.py: {argv[1]}: {e}", file=sys.stderr)
        return 1
    for path, text in zip(argv[2:], texts):
        with open(path, "w", encoding="ascii", newline="\n") as f:
            f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
