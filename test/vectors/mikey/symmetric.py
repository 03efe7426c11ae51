"""Hashes, the MIKEY PRF, AES, AES-CM and AES key wrap, from FIPS 197, RFC 3394, RFC 3711 and RFC 3830 on top of hashlib and hmac."""

import hashlib
import hmac as hmac_module


def sha(name, *parts):
    """SHA-1, SHA-256 or MD5 over the concatenation of the parts."""
    return hashlib.new(name, b"".join(parts)).digest()


def hmac(name, key, *parts):
    return hmac_module.new(key, b"".join(parts), name).digest()


def rnd(label, octets):
    """What stands for randomness: SHA-256("watchword MIKEY test vectors: " || label || counter), counter of 32 bits from 0, cut to length."""
    out, counter = b"", 0
    while len(out) < octets:
        out += sha("sha256", b"watchword MIKEY test vectors: ", label.encode(), counter.to_bytes(4, "big"))
        counter += 1
    return out[:octets]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


# RFC 3830 4.1.2; RFC 6043 6.1 puts SHA-256 and 256 bits in place of SHA-1 and 160, and leaves the 256-bit blocks of the key alone.
PRF_HASH = {0: "sha1", 1: "sha256"}


def prf(func, inkey, label, octets):
    name = PRF_HASH[func]

    def p(s, m):
        a, out = label, b""
        for _ in range(m):
            a = hmac(name, s, a)
            out += hmac(name, s, a, label)
        return out

    m = -(-octets // hashlib.new(name).digest_size)
    out = None
    for at in range(0, len(inkey), 32):
        part = p(inkey[at : at + 32], m)
        out = part if out is None else xor(out, part)
    return out[:octets]


# AES (FIPS 197), one block at a time. The S-box is computed, not typed: inverse in GF(2^8), then the affine map (5.1.1).
def _mul(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _sbox():
    box = []
    for value in range(256):
        inverse = next((x for x in range(256) if _mul(value, x) == 1), 0)
        out = 0x63
        for shift in range(5):
            out ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
        box.append(out)
    return bytes(box)


SBOX = _sbox()
INVERSE_SBOX = bytes(SBOX.index(value) for value in range(256))
PRODUCT = {factor: bytes(_mul(value, factor) for value in range(256)) for factor in (1, 2, 3, 9, 11, 13, 14)}


def _round_keys(key):
    nk = len(key) // 4
    words = [key[4 * i : 4 * i + 4] for i in range(nk)]
    rcon = 1
    for i in range(nk, 4 * (nk + 7)):
        word = words[-1]
        if i % nk == 0:
            word = bytes(SBOX[octet] for octet in word[1:] + word[:1])
            word = bytes([word[0] ^ rcon]) + word[1:]
            rcon = _mul(rcon, 2)
        elif nk > 6 and i % nk == 4:
            word = bytes(SBOX[octet] for octet in word)
        words.append(xor(words[i - nk], word))
    return [b"".join(words[i : i + 4]) for i in range(0, len(words), 4)]


def _mix(state, row):
    out = bytearray()
    for column in range(0, 16, 4):
        for i in range(4):
            octet = 0
            for j in range(4):
                octet ^= PRODUCT[row[(j - i) % 4]][state[column + j]]
            out.append(octet)
    return bytes(out)


def aes_encrypt(key, block):
    keys = _round_keys(key)
    state = xor(block, keys[0])
    for number, round_key in enumerate(keys[1:], 1):
        state = bytes(SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16))
        if number < len(keys) - 1:
            state = _mix(state, (2, 3, 1, 1))
        state = xor(state, round_key)
    return state


def aes_decrypt(key, block):
    keys = _round_keys(key)
    state = xor(block, keys[-1])
    for number in range(len(keys) - 2, -1, -1):
        state = bytes(INVERSE_SBOX[state[(i - 4 * (i % 4)) % 16]] for i in range(16))
        state = xor(state, keys[number])
        if number > 0:
            state = _mix(state, (14, 11, 13, 9))
    return state


def aes_cm(key, iv, octets):
    """AES in counter mode (RFC 3711 4.1.1): the keystream is E(IV), E(IV + 1), ...; encrypts and decrypts."""
    out = b""
    for at in range(0, len(octets), 16):
        counter = (int.from_bytes(iv, "big") + at // 16) % (1 << 128)
        part = octets[at : at + 16]
        out += xor(part, aes_encrypt(key, counter.to_bytes(16, "big"))[: len(part)])
    return out


def aes_wrap(key, initial, octets):
    """RFC 3394 2.2.1 with a chosen initial value."""
    assert len(octets) % 8 == 0 and len(octets) >= 16 and len(initial) == 8
    a, r = initial, [octets[i : i + 8] for i in range(0, len(octets), 8)]
    for j in range(6):
        for i in range(len(r)):
            b = aes_encrypt(key, a + r[i])
            a = xor(b[:8], (len(r) * j + i + 1).to_bytes(8, "big"))
            r[i] = b[8:]
    return a + b"".join(r)


def aes_unwrap(key, initial, octets):
    """RFC 3394 2.2.2."""
    a, r = octets[:8], [octets[i : i + 8] for i in range(8, len(octets), 8)]
    for j in range(5, -1, -1):
        for i in range(len(r) - 1, -1, -1):
            b = aes_decrypt(key, xor(a, (len(r) * j + i + 1).to_bytes(8, "big")) + r[i])
            a, r[i] = b[:8], b[8:]
    assert a == initial
    return b"".join(r)
