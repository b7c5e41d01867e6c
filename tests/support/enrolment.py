# SPDX-License-Identifier: Apache-2.0
"""A machine that enrols by itself: keys and requests by openssl, calls by Python's grpcio. What an attacker does, too."""

import hashlib
import json
import os
import pathlib
import socket
import struct
import threading

import fixture


def csr(subject: str = "/CN=whatever", key: pathlib.Path | None = None) -> tuple[pathlib.Path, bytes]:
    """A new key (PKCS#8, PEM) and a request for it, DER."""
    work = fixture.scratch()
    if key is None:
        key = work / "key.pem"
        fixture.run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        key.chmod(0o600)
    fixture.run("openssl", "req", "-new", "-key", key, "-subj", subject, "-outform", "DER", "-out", work / "csr.der")
    return key, (work / "csr.der").read_bytes()


def sign(key: pathlib.Path, data: bytes) -> bytes:
    """ECDSA-SHA256, DER."""
    work = fixture.scratch()
    (work / "data").write_bytes(data)
    fixture.run("openssl", "dgst", "-sha256", "-sign", key, "-out", work / "signature", work / "data")
    return (work / "signature").read_bytes()


def pem(der: bytes) -> bytes:
    work = fixture.scratch()
    (work / "der").write_bytes(der)
    return fixture.run("openssl", "x509", "-inform", "DER", "-in", work / "der").stdout.encode()


def chain_of(identity: pathlib.Path) -> list[bytes]:
    """The chain of an identity directory, DER, leaf first."""
    text = (identity / "client-cert.pem").read_text()
    work, ders = fixture.scratch(), []
    for part in text.split("-----END CERTIFICATE-----")[:-1]:
        (work / "pem").write_text(part + "-----END CERTIFICATE-----\n")
        fixture.run("openssl", "x509", "-in", work / "pem", "-outform", "DER", "-out", work / "der")
        ders.append((work / "der").read_bytes())
    return ders


def sha256_of(identity: pathlib.Path) -> str:
    return hashlib.sha256(chain_of(identity)[0]).hexdigest()


class Token:
    """sentinelctl tokens create."""

    def __init__(self, hub: fixture.Hub, *flags):
        self.told = json.loads(hub.ctl("tokens", "create", "--json", *flags).stdout)
        self.text = self.told["enrolment"]
        form, self.hub, self.id, secret, self.pin = self.text.split("/")
        assert form == "sentinel1", self.text
        padded = secret.upper() + "=" * (-len(secret) % 8)
        import base64
        self.secret = base64.b32decode(padded)


def enrollment(hub: fixture.Hub, channel=None):
    s = fixture.stubs()
    return s.enrollment_grpc.EnrollmentServiceStub(channel or hub.channel())


def enrol(hub: fixture.Hub, token: Token, name: str = "", key: pathlib.Path | None = None, channel=None, secret: bytes | None = None,
          request: bytes | None = None, **fields) -> pathlib.Path:
    """Enrols and returns an identity directory; raises grpc.RpcError."""
    s = fixture.stubs()
    made, der = csr(key=key)
    answer = enrollment(hub, channel).Enroll(s.enrollment.EnrollRequest(
        token_id=token.id, token_secret=token.secret if secret is None else secret, csr=der if request is None else request,
        requested_id=name, instance=fields.pop("instance", os.urandom(16)), **fields), timeout=fixture.PATIENCE)
    return save(made, answer.chain, answer.roots)


def save(key: pathlib.Path, chain, roots) -> pathlib.Path:
    directory = fixture.scratch()
    directory.chmod(0o700)
    (directory / "client-key.pem").write_bytes(key.read_bytes())
    (directory / "client-key.pem").chmod(0o600)
    (directory / "client-cert.pem").write_bytes(b"".join(map(pem, chain)))
    (directory / "ca-cert.pem").write_bytes(b"".join(map(pem, roots)))
    return directory


def name_of(identity: pathlib.Path) -> str:
    subject = fixture.run("openssl", "x509", "-in", identity / "client-cert.pem", "-noout", "-subject", "-nameopt", "multiline").stdout
    return next(line.split("= ")[1].strip() for line in subject.splitlines() if "commonName" in line)


def refused(call, *args, **fields) -> dict:
    """How a call is refused."""
    import grpc
    try:
        call(*args, **fields)
    except grpc.RpcError as error:
        return fixture.rich(error)
    raise AssertionError("it was let in")


class Relay:
    """A proxy that the hub trusts (127.0.0.2): it says that everybody comes from `address` (PROXY protocol, version 2)."""

    def __init__(self, hub: fixture.Hub, address: str):
        self.hub, self.address = hub, address
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.is_open:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self.hub.port), source_address=("127.0.0.2", 0))
            upstream.sendall(b"\r\n\r\n\x00\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack(">H", 12) + socket.inet_aton(self.address) +
                             socket.inet_aton("127.0.0.1") + struct.pack(">HH", 40000, self.hub.port))
            for a, b in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    @staticmethod
    def _copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def channel(self, identity: pathlib.Path | None = None):
        import grpc
        pair = {} if identity is None else {"private_key": (identity / "client-key.pem").read_bytes(),
                                            "certificate_chain": (identity / "client-cert.pem").read_bytes()}
        return grpc.secure_channel(f"127.0.0.1:{self.port}", grpc.ssl_channel_credentials((self.hub.admin / "ca-cert.pem").read_bytes(), **pair),
                                   options=[("grpc.use_local_subchannel_pool", 1)])

    def close(self):
        self.is_open = False
        self.listener.close()
