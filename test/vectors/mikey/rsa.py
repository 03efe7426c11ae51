"""RSA from RFC 8017: key pairs made from a label, RSASSA-PKCS1-v1_5, RSASSA-PSS, RSAES-PKCS1-v1_5, RSAES-OAEP."""

import math

from symmetric import rnd, sha, xor

E = 65537
SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2))]


def _is_prime(n):
    """Trial division, then 24 rounds of Miller-Rabin with the first primes as bases."""
    if any(n % p == 0 for p in SMALL_PRIMES):
        return False
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for base in [2, *SMALL_PRIMES[:23]]:
        x = pow(base, d, n)
        if x in (1, n - 1):
            continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def _prime(label, bits):
    """The first prime at or above rnd(label) with its two highest bits set, to which e is no divisor of p - 1."""
    n = int.from_bytes(rnd(label, bits // 8), "big") | 3 << (bits - 2) | 1
    while n % E == 1 or not _is_prime(n):
        n += 2
    return n


class RsaKey:
    def __init__(self, label, bits):
        self.p, self.q = (_prime(f"{label} {name}", bits // 2) for name in "pq")
        if self.p < self.q:
            self.p, self.q = self.q, self.p
        self.n, self.e, self.octets = self.p * self.q, E, bits // 8
        self.d = pow(E, -1, math.lcm(self.p - 1, self.q - 1))

    def public(self, m):
        return pow(m, self.e, self.n)

    def private(self, c):
        m1, m2 = pow(c, self.d % (self.p - 1), self.p), pow(c, self.d % (self.q - 1), self.q)
        return m2 + self.q * (pow(self.q, -1, self.p) * (m1 - m2) % self.p)


def _mgf1(name, seed, octets):
    out, counter = b"", 0
    while len(out) < octets:
        out += sha(name, seed, counter.to_bytes(4, "big"))
        counter += 1
    return out[:octets]


def _sign(key, em):
    return key.private(int.from_bytes(em, "big")).to_bytes(key.octets, "big")


def _encrypt(key, em):
    return key.public(int.from_bytes(em, "big")).to_bytes(key.octets, "big")


# The DER of DigestInfo before the digest (RFC 8017 9.2, note 1).
DIGEST_INFO = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
}


def pkcs1_sign(key, name, message):
    """RFC 8017 8.2.1."""
    t = DIGEST_INFO[name] + sha(name, message)
    return _sign(key, b"\x00\x01" + b"\xff" * (key.octets - 3 - len(t)) + b"\x00" + t)


def pss_sign(key, name, message, salt):
    """RFC 8017 8.1.1, MGF1 with the same hash."""
    h = sha(name, bytes(8), sha(name, message), salt)
    db = bytes(key.octets - len(salt) - len(h) - 2) + b"\x01" + salt
    masked = xor(db, _mgf1(name, h, len(db)))
    return _sign(key, bytes([masked[0] & 0x7F]) + masked[1:] + h + b"\xbc")


def pkcs1_padding(key, label, octets):
    """PS: pseudo-random octets without a zero."""
    return bytes(octet or 0xFF for octet in rnd(label, key.octets - 3 - octets))


def pkcs1_encrypt(key, message, padding):
    """RFC 8017 7.2.1."""
    assert len(padding) == key.octets - 3 - len(message) and 0 not in padding
    return _encrypt(key, b"\x00\x02" + padding + b"\x00" + message)


def oaep_encrypt(key, name, message, seed):
    """RFC 8017 7.1.1, empty label, MGF1 with the same hash."""
    h = sha(name)
    db = h + bytes(key.octets - len(message) - 2 * len(h) - 2) + b"\x01" + message
    masked = xor(db, _mgf1(name, seed, len(db)))
    return _encrypt(key, b"\x00" + xor(seed, _mgf1(name, masked, len(h))) + masked)
