#!/usr/bin/env python3
"""Computes test/vectors/deregistration.json from docs/protocol.md alone, independently of the TypeScript code."""
import hashlib, hmac, json, os

sha256 = lambda b: hashlib.sha256(b).digest()
mac = lambda k, b: hmac.new(k, b, hashlib.sha256).digest()
L = lambda width, b: len(b).to_bytes(width, "big") + b


def prf256(inkey, label):
    """RFC 3830 4.1.2 with HMAC-SHA-256, 256 output bits: one round per 256-bit block of the input key."""
    out = bytes(32)
    for at in range(0, len(inkey), 32):
        block = inkey[at : at + 32]
        a1 = mac(block, label)
        out = bytes(x ^ y for x, y in zip(out, mac(block, a1 + label)))
    return out


def case(name, i_msg, r_msg, s, csb, rand, t, idi, idr, nonce_i, nonce_r, spi, tek1, prf_func, request_t, sender):
    bind = sha256(i_msg[1:2] + csb + L(1, rand) + L(1, t) + L(2, idi) + L(2, idr) + L(1, nonce_i) + L(1, nonce_r))
    lk = prf256(s, b"ww1 reg" + bind)
    th = sha256(L(4, i_msg) + L(4, r_msg))
    k_pop = prf256(lk, b"ww1 pop" + th)
    g = prf256(tek1, b"ww1 held" + L(1, b"") + L(1, spi))
    held = b"\x01" + L(1, spi) + g
    key_req, key_ack = mac(k_pop, b"ww1 req" + held), mac(k_pop, b"ww1 ack" + held)
    ids = (L(2, idi) + L(2, idr)) if sender == "initiator" else (L(2, idr) + L(2, idi))
    back = (L(2, idr) + L(2, idi)) if sender == "initiator" else (L(2, idi) + L(2, idr))
    pop = b"\x01\x01" + L(1, spi) + th

    def body(data_type, v):
        hdr = bytes([1, data_type, 5, (0x80 if v else 0) | prf_func]) + csb + bytes([0, 1])
        ext = bytes([9, 244]) + L(2, pop)
        return hdr + bytes([21, 0]) + request_t + ext + bytes([0, 2])

    m = body(243, True)
    request = m + mac(key_req, m + ids + th)
    m = body(244, False)
    ack = m + mac(key_ack, m + back + th + sha256(request))
    h = lambda b: b.hex()
    return dict(name=name, iMessage=h(i_msg), rMessage=h(r_msg), secret=h(s), csbId=h(csb), rand=h(rand), t=h(t), idi=h(idi), idr=h(idr),
                nonceI=h(nonce_i), nonceR=h(nonce_r), spi=h(spi), tek1=h(tek1), prfFunc=prf_func, requestT=h(request_t), sender=sender,
                bind=h(bind), lk=h(lk), th=h(th), kPop=h(k_pop), g=h(g), keyRequest=h(key_req), keyAck=h(key_ack), request=h(request), acknowledgement=h(ack))


seq = lambda start, n: bytes((start + i) & 0xFF for i in range(n))
csb = bytes.fromhex("12345678")
rand, t, later = seq(0xA0, 16), bytes.fromhex("ec898da800000000"), bytes.fromhex("ec898db480000000")
idi, idr = b"rtsp-server@example.org", b"viewer@example.org"
# The messages need not be well-formed for the derivation: TH and bind take octets. Header octets are real, the rest is filler.
i_msg = bytes([1, 0, 5, 0x80]) + csb + seq(0, 60)
r_msg = bytes([1, 1, 5, 0x00]) + csb + seq(100, 40)
cases = [
    case("TGK with SPI, the Responder leaves", i_msg, r_msg, seq(0x40, 16), csb, rand, t, idi, idr, b"", b"", bytes.fromhex("0000002a"), seq(0x60, 16), 0, later, "responder"),
    case("TEK under a pre-shared key, the Initiator leaves", i_msg, r_msg, seq(0x10, 32), csb, rand, t, idi, idr, b"", b"", bytes.fromhex("01"), seq(0x70, 16), 1, later, "initiator"),
    case("NULL keying inside TLS, KV Null, no identities", i_msg, i_msg, seq(1, 30), csb, rand, t, b"", b"", b"", b"", b"", seq(1, 16), 0, later, "responder"),
    case("TGK of 64 octets, HELLO on both sides", i_msg, r_msg, seq(0x80, 64), csb, rand, t, idi, idr, seq(0xC0, 16), seq(0xD0, 16), bytes.fromhex("0000002b"), seq(0x50, 32), 0, later, "responder"),
]
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deregistration.json")
text = json.dumps(dict(source="docs/protocol.md section 9, computed by deregistration.py", vectors=cases), indent=1) + "\n"
if os.environ.get("CHECK"):
    raise SystemExit(0 if open(path).read() == text else "deregistration.json differs from what this script computes")
open(path, "w").write(text)
