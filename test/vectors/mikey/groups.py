"""Diffie-Hellman over the OAKLEY groups, X25519 and P-256; Ed25519 and ECDSA. From RFC 2409, 3526, 7748, 8032, 6979 and SEC 1."""

from symmetric import hmac, sha

big = lambda octets: int.from_bytes(octets, "big")
little = lambda octets: int.from_bytes(octets, "little")


def _pi(bits):
    """floor(2^bits * pi), by Machin's formula pi/4 = 4 arctan(1/5) - arctan(1/239)."""
    one = 1 << (bits + 64)

    def arctan(inverse):
        power = one // inverse
        total, n, sign = 0, 1, 1
        while power:
            total += sign * (power // n)
            power //= inverse * inverse
            n, sign = n + 2, -sign
        return total

    return (4 * (4 * arctan(5) - arctan(239))) >> 64


# RFC 2409 6.1, 6.2 and RFC 3526 2: p = 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) * pi) + c), g = 2. The key is the number in MIKEY.
MODP = {
    number: (1 << n) - (1 << (n - 64)) - 1 + (1 << 64) * (_pi(n - 130) + c)
    for number, n, c in ((0, 1536, 741804), (1, 768, 149686), (2, 1024, 129093))
}
MODP_OCTETS = {0: 192, 1: 96, 2: 128}


def modp_public(group, secret):
    """g^x mod p, left-padded to the length of the group."""
    return pow(2, big(secret), MODP[group]).to_bytes(MODP_OCTETS[group], "big")


def modp_shared(group, secret, peer):
    y, p = big(peer), MODP[group]
    assert 2 <= y <= p - 2 and pow(y, (p - 1) // 2, p) == 1
    return pow(y, big(secret), p).to_bytes(MODP_OCTETS[group], "big")


P25519 = 2**255 - 19


def x25519(scalar, u=(9).to_bytes(32, "little")):
    """RFC 7748 5."""
    k = (little(scalar) & ~(7 | 1 << 255)) | 1 << 254
    x1 = little(u) % (1 << 255) % P25519
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in range(254, -1, -1):
        bit = (k >> t) & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        x3, z3 = pow(da + cb, 2, P25519), x1 * pow(da - cb, 2, P25519) % P25519
        e = aa - bb
        x2, z2 = aa * bb % P25519, e * (aa + 121665 * e) % P25519
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, -1, P25519) % P25519).to_bytes(32, "little")


# Ed25519 (RFC 8032 5.1), affine coordinates: slow and plain.
D25519 = -121665 * pow(121666, -1, P25519) % P25519
L25519 = 2**252 + 27742317777372353535851937790883648493


def _ed_recover_x(y):
    square = (y * y - 1) * pow(D25519 * y * y + 1, -1, P25519) % P25519
    x = pow(square, (P25519 + 3) // 8, P25519)
    if (x * x - square) % P25519:
        x = x * pow(2, (P25519 - 1) // 4, P25519) % P25519
    return x


def _ed_add(p, q):
    (x1, y1), (x2, y2) = p, q
    k = D25519 * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + k, -1, P25519) % P25519,
        (y1 * y2 + x1 * x2) * pow(1 - k, -1, P25519) % P25519,
    )


def _ed_multiply(p, n):
    result = (0, 1)
    while n:
        if n & 1:
            result = _ed_add(result, p)
        p, n = _ed_add(p, p), n >> 1
    return result


_y = 4 * pow(5, -1, P25519) % P25519
_x = _ed_recover_x(_y)
ED_BASE = (_x if _x % 2 == 0 else P25519 - _x, _y)


def _ed_encode(p):
    return (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")


def _ed_secret(seed):
    h = sha("sha512", seed)
    return (little(h[:32]) & ((1 << 254) - 8)) | 1 << 254, h[32:]


def ed25519_public(seed):
    return _ed_encode(_ed_multiply(ED_BASE, _ed_secret(seed)[0]))


def ed25519_sign(seed, message):
    s, prefix = _ed_secret(seed)
    a = _ed_encode(_ed_multiply(ED_BASE, s))
    r = little(sha("sha512", prefix, message)) % L25519
    point = _ed_encode(_ed_multiply(ED_BASE, r))
    k = little(sha("sha512", point, a, message)) % L25519
    return point + ((r + k * s) % L25519).to_bytes(32, "little")


# P-256 (SEC 2, FIPS 186-4 D.1.2.3).
P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
N256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B256 = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G256 = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def _p256_add(p, q):
    if p is None or q is None:
        return q if p is None else p
    (x1, y1), (x2, y2) = p, q
    if x1 == x2 and (y1 + y2) % P256 == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P256) if p == q else (y2 - y1) * pow(x2 - x1, -1, P256)
    x = (slope * slope - x1 - x2) % P256
    return x, (slope * (x1 - x) - y1) % P256


def _p256_multiply(p, n):
    result = None
    while n:
        if n & 1:
            result = _p256_add(result, p)
        p, n = _p256_add(p, p), n >> 1
    return result


def p256_public(secret):
    """65 octets, uncompressed (SEC 1 2.3.3)."""
    x, y = _p256_multiply(G256, big(secret))
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def p256_shared(secret, peer):
    """The x coordinate (SEC 1 3.3.1)."""
    x, y = big(peer[1:33]), big(peer[33:])
    assert peer[0] == 4 and (y * y - x**3 + 3 * x - B256) % P256 == 0
    return _p256_multiply((x, y), big(secret))[0].to_bytes(32, "big")


def ecdsa_nonce(secret, digest):
    """RFC 6979 3.2 with HMAC-SHA-256."""
    seed = secret + (big(digest) % N256).to_bytes(32, "big")
    k, v = bytes(32), b"\x01" * 32
    for separator in (b"\x00", b"\x01"):
        k = hmac("sha256", k, v, separator, seed)
        v = hmac("sha256", k, v)
    while True:
        v = hmac("sha256", k, v)
        if 1 <= big(v) < N256:
            return v
        k = hmac("sha256", k, v, b"\x00")
        v = hmac("sha256", k, v)


def ecdsa_sign(secret, message):
    """ECDSA with SHA-256 and the nonce of RFC 6979. Returns r || s and the nonce."""
    digest = sha("sha256", message)
    nonce = ecdsa_nonce(secret, digest)
    r = _p256_multiply(G256, big(nonce))[0] % N256
    s = pow(big(nonce), -1, N256) * (big(digest) + r * big(secret)) % N256
    return r.to_bytes(32, "big") + s.to_bytes(32, "big"), nonce


# DH-Group by its number in the DH payload: 0 to 2 of RFC 3830 6.4, 241 and 242 of docs/protocol.md.
GROUPS = {
    0: ("OAKLEY 5", lambda x: modp_public(0, x), lambda x, y: modp_shared(0, x, y)),
    1: ("OAKLEY 1", lambda x: modp_public(1, x), lambda x, y: modp_shared(1, x, y)),
    2: ("OAKLEY 2", lambda x: modp_public(2, x), lambda x, y: modp_shared(2, x, y)),
    241: ("X25519", x25519, x25519),
    242: ("P-256", p256_public, p256_shared),
}
