#!/usr/bin/env python3
"""Known answers for the primitives, so that a vector is not wrong because of its tools."""

from groups import (
    MODP,
    ecdsa_sign,
    ed25519_public,
    ed25519_sign,
    modp_public,
    modp_shared,
    p256_public,
    p256_shared,
    x25519,
)
from symmetric import aes_cm, aes_decrypt, aes_encrypt, aes_unwrap, aes_wrap

h = bytes.fromhex


def check(what, got, wanted):
    assert got == wanted, f"{what}: {got.hex()} instead of {wanted.hex()}"
    print("ok", what)


key = lambda octets: bytes(range(octets))
plain = h("00112233445566778899aabbccddeeff")
for octets, wanted in ((16, "69c4e0d86a7b0430d8cdb78070b4c55a"), (32, "8ea2b7ca516745bfeafc49904b496089")):
    check(f"FIPS 197 C, AES-{8 * octets}", aes_encrypt(key(octets), plain), h(wanted))
    check(f"FIPS 197 C, AES-{8 * octets} backwards", aes_decrypt(key(octets), h(wanted)), plain)
check(
    "RFC 3711 B.2",
    aes_cm(h("2b7e151628aed2a6abf7158809cf4f3c"), h("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000"), bytes(32)),
    h("e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab"),
)
wrapped = h("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5")
check("RFC 3394 4.1", aes_wrap(key(16), b"\xa6" * 8, plain), wrapped)
check("RFC 3394 4.1 backwards", aes_unwrap(key(16), b"\xa6" * 8, wrapped), plain)

check(
    "RFC 3526 2, first octets of the prime",
    MODP[0].to_bytes(192, "big")[:24],
    h("ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd1"),
)
check("RFC 3526 2, last octets of the prime", MODP[0].to_bytes(192, "big")[-16:], h("f1746c08ca237327ffffffffffffffff"))
check("RFC 2409 6.2, last octets of the prime", MODP[2].to_bytes(128, "big")[-16:], h("49286651ece65381ffffffffffffffff"))
check("RFC 2409 6.1, last octets of the prime", MODP[1].to_bytes(96, "big")[-16:], h("f44c42e9a63a3620ffffffffffffffff"))
a, b = b"\x05" * 32, b"\x07" * 32
for group in MODP:
    check(f"agreement in group {group}", modp_shared(group, a, modp_public(group, b)), modp_shared(group, b, modp_public(group, a)))

bob, alice = (
    h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
    h("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
)
check("RFC 7748 6.1, public key", x25519(bob), h("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"))
check("RFC 7748 6.1, secret", x25519(bob, alice), h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"))

seed = h("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
check(
    "RFC 8032 7.1 test 2, public key", ed25519_public(seed), h("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
)
check(
    "RFC 8032 7.1 test 2, signature",
    ed25519_sign(seed, b"\x72"),
    h(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    ),
)

secret = h("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
check(
    "RFC 6979 A.2.5, public key",
    p256_public(secret),
    h(
        "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ),
)
check(
    "RFC 6979 A.2.5, SHA-256, sample",
    ecdsa_sign(secret, b"sample")[0],
    h(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    ),
)
check("agreement in P-256", p256_shared(secret, p256_public(a)), p256_shared(a, p256_public(secret)))
