"""DER, PKCS #8, SubjectPublicKeyInfo and X.509 v3 (X.690, RFC 5208, 5280, 5480, 5915, 8410), and the parties of the vectors."""

from groups import ed25519_public, p256_public
from rsa import RsaKey, pkcs1_sign
from symmetric import rnd, sha


def der(tag, *parts):
    body = b"".join(parts)
    length = (
        bytes([len(body)])
        if len(body) < 128
        else (lambda n: bytes([0x80 | len(n)]) + n)(len(body).to_bytes((len(body).bit_length() + 7) // 8, "big"))
    )
    return bytes([tag]) + length + body


sequence = lambda *parts: der(0x30, *parts)
octet_string = lambda octets: der(0x04, octets)
bit_string = lambda octets, unused=0: der(0x03, bytes([unused]) + octets)
integer = lambda n: der(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big"))
NULL = der(0x05)


def oid(dotted):
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray([40 * first + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        out += bytes(reversed(digits))
    return der(0x06, bytes(out))


RSA_ALGORITHM = sequence(oid("1.2.840.113549.1.1.1"), NULL)
SHA256_WITH_RSA = sequence(oid("1.2.840.113549.1.1.11"), NULL)
P256_ALGORITHM = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"))
ED25519_ALGORITHM = sequence(oid("1.3.101.112"))


class KeyPair:
    """`secret` is an RsaKey, or the 32 octets of a P-256 scalar or an Ed25519 seed."""

    def __init__(self, name, kind, bits=0):
        self.name, self.kind = name, kind
        if kind == "rsa":
            key = self.secret = RsaKey(f"RSA key of {name}", bits)
            self.subject_key = sequence(integer(key.n), integer(key.e))
            self.spki = sequence(RSA_ALGORITHM, bit_string(self.subject_key))
            inner = sequence(
                integer(0),
                integer(key.n),
                integer(key.e),
                integer(key.d),
                integer(key.p),
                integer(key.q),
                integer(key.d % (key.p - 1)),
                integer(key.d % (key.q - 1)),
                integer(pow(key.q, -1, key.p)),
            )
            self.pkcs8 = sequence(integer(0), RSA_ALGORITHM, octet_string(inner))
        elif kind == "ec-p256":
            self.secret = rnd(f"P-256 key of {name}", 32)
            self.subject_key = p256_public(self.secret)
            self.spki = sequence(P256_ALGORITHM, bit_string(self.subject_key))
            inner = sequence(integer(1), octet_string(self.secret), der(0xA1, bit_string(self.subject_key)))
            self.pkcs8 = sequence(integer(0), P256_ALGORITHM, octet_string(inner))
        else:
            self.secret = rnd(f"Ed25519 key of {name}", 32)
            self.subject_key = ed25519_public(self.secret)
            self.spki = sequence(ED25519_ALGORITHM, bit_string(self.subject_key))
            self.pkcs8 = sequence(integer(0), ED25519_ALGORITHM, octet_string(octet_string(self.secret)))
        self.certificate = None
        self.issuer = None


DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, CERT_SIGN = 0x80, 0x20, 0x06
SERIALS = iter(range(0x1001, 0x2000))


def certify(subject, issuer, usage, uri=None, path_length=None):
    """An X.509 v3 certificate, valid 2024 to 2049, signed by sha256WithRSAEncryption."""
    name = lambda key: sequence(der(0x31, sequence(oid("2.5.4.3"), der(0x0C, key.name.encode()))))
    key_id = lambda key: sha("sha1", key.subject_key)
    extension = lambda number, value, critical=False: sequence(
        oid(number), *([der(0x01, b"\xff")] if critical else []), octet_string(value)
    )
    unused = (usage & -usage).bit_length() - 1
    is_ca = usage == CERT_SIGN
    extensions = [
        extension(
            "2.5.29.19",
            sequence(*([der(0x01, b"\xff")] if is_ca else []), *([integer(path_length)] if path_length is not None else [])),
            True,
        ),
        extension("2.5.29.15", bit_string(bytes([usage]), unused), True),
        extension("2.5.29.14", octet_string(key_id(subject))),
        extension("2.5.29.35", sequence(der(0x80, key_id(issuer)))),
    ]
    if uri is not None:
        extensions.append(extension("2.5.29.17", sequence(der(0x86, uri.encode()))))
    validity = sequence(der(0x17, b"240101000000Z"), der(0x17, b"491231235959Z"))
    tbs = sequence(
        der(0xA0, integer(2)),
        integer(next(SERIALS)),
        SHA256_WITH_RSA,
        name(issuer),
        validity,
        name(subject),
        subject.spki,
        der(0xA3, sequence(*extensions)),
    )
    subject.certificate = sequence(tbs, SHA256_WITH_RSA, bit_string(pkcs1_sign(issuer.secret, "sha256", tbs)))
    subject.issuer = issuer


ALICE_URI, BOB_URI, GROUP_URI = "sip:alice@example.org", "sip:bob@example.org", "sip:conference@example.org"


def make():
    keys = {
        name: KeyPair(name, *kind)
        for name, kind in {
            "root": ("rsa", 2048),
            "users": ("rsa", 2048),
            "alice": ("rsa", 2048),
            "alice-chain": ("rsa", 2048),
            "bob": ("rsa", 2048),
            "bob-encryption": ("rsa", 3072),
            "conference": ("rsa", 2048),
            "alice-ed25519": ("ed25519",),
            "bob-ed25519": ("ed25519",),
            "alice-p256": ("ec-p256",),
            "bob-p256": ("ec-p256",),
        }.items()
    }
    both = DIGITAL_SIGNATURE | KEY_ENCIPHERMENT
    certify(keys["root"], keys["root"], CERT_SIGN)
    certify(keys["users"], keys["root"], CERT_SIGN, path_length=0)
    certify(keys["alice"], keys["root"], both, ALICE_URI)
    certify(keys["alice-chain"], keys["users"], both, ALICE_URI)
    certify(keys["bob"], keys["root"], both, BOB_URI)
    certify(keys["bob-encryption"], keys["root"], KEY_ENCIPHERMENT, BOB_URI)
    certify(keys["conference"], keys["root"], both, GROUP_URI)
    for name in ("alice-ed25519", "alice-p256"):
        certify(keys[name], keys["root"], DIGITAL_SIGNATURE, ALICE_URI)
    for name in ("bob-ed25519", "bob-p256"):
        certify(keys[name], keys["root"], DIGITAL_SIGNATURE, BOB_URI)
    return keys
