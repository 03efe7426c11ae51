#!/usr/bin/env python3
"""Computes test/vectors/group-keys.json and group-messages.json from docs/protocol.md alone, independently of the TypeScript code."""
import hashlib, hmac, json, os

sha256 = lambda b: hashlib.sha256(b).digest()
mac = lambda k, b: hmac.new(k, b, hashlib.sha256).digest()
L = lambda width, b: len(b).to_bytes(width, "big") + b
u8, u16, u32 = (lambda n: n.to_bytes(1, "big")), (lambda n: n.to_bytes(2, "big")), (lambda n: n.to_bytes(4, "big"))
seq = lambda start, n: bytes((start + i) & 0xFF for i in range(n))
h = lambda b: b.hex()


def prf(inkey, label, octets):
    """RFC 3830 4.1.2 with HMAC-SHA-256 (PRF func 1)."""
    out = bytes(octets)
    for at in range(0, len(inkey), 32):
        block, a, stream = inkey[at : at + 32], label, b""
        while len(stream) < octets:
            a = mac(block, a)
            stream += mac(block, a + label)
        out = bytes(x ^ y for x, y in zip(out, stream))
    return out


# AES encryption (FIPS 197), tables computed.
def xtime(a):
    return ((a << 1) ^ 0x1B) & 0xFF if a & 0x80 else a << 1


def sbox_table():
    p, q, box = 1, 1, [0] * 256
    while True:
        p ^= xtime(p)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        box[p] = q ^ ((q << 1 | q >> 7) & 0xFF) ^ ((q << 2 | q >> 6) & 0xFF) ^ ((q << 3 | q >> 5) & 0xFF) ^ ((q << 4 | q >> 4) & 0xFF) ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = sbox_table()


def aes(key, block):
    nk = len(key) // 4
    rounds, rcon = nk + 6, 1
    words = [key[4 * i : 4 * i + 4] for i in range(nk)]
    for i in range(nk, 4 * (rounds + 1)):
        t = words[i - 1]
        if i % nk == 0:
            t = bytes(SBOX[b] for b in t[1:] + t[:1])
            t = bytes([t[0] ^ rcon]) + t[1:]
            rcon = xtime(rcon)
        elif nk > 6 and i % nk == 4:
            t = bytes(SBOX[b] for b in t)
        words.append(bytes(x ^ y for x, y in zip(words[i - nk], t)))
    round_key = lambda r: b"".join(words[4 * r : 4 * r + 4])
    s = bytes(x ^ y for x, y in zip(block, round_key(0)))
    for r in range(1, rounds + 1):
        s = bytes(SBOX[b] for b in s)
        s = bytes(s[(i + 4 * (i % 4)) % 16] for i in range(16))
        if r < rounds:
            m = []
            for c in range(0, 16, 4):
                a = s[c : c + 4]
                x = a[0] ^ a[1] ^ a[2] ^ a[3]
                m += [a[i] ^ x ^ xtime(a[i] ^ a[(i + 1) % 4]) for i in range(4)]
            s = bytes(m)
        s = bytes(x ^ y for x, y in zip(s, round_key(r)))
    return s


def kwp(key, plaintext):
    """AES key wrap with padding (RFC 5649 4.1)."""
    if not plaintext:
        return b""
    aiv = bytes.fromhex("a65959a6") + u32(len(plaintext))
    padded = plaintext + bytes(-len(plaintext) % 8)
    if len(padded) == 8:
        return aes(key, aiv + padded)
    a, r, n = aiv, [padded[i : i + 8] for i in range(0, len(padded), 8)], len(padded) // 8
    for j in range(6):
        for i in range(n):
            b = aes(key, a + r[i])
            a = (int.from_bytes(b[:8], "big") ^ (n * j + i + 1)).to_bytes(8, "big")
            r[i] = b[8:]
    return a + b"".join(r)


assert aes(seq(0, 16), bytes.fromhex("00112233445566778899aabbccddeeff")).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
RFC5649 = [
    ("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"),
    ("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"),
]
for k, p, w in RFC5649:
    assert kwp(bytes.fromhex(k), bytes.fromhex(p)).hex() == w

# Ed25519 (RFC 8032 5.1), affine arithmetic: slow and short.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 46316835694926478169428394003475163141307993866256225615783033603165251855960)


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P)


def times(n, point):
    out = (0, 1)
    while n:
        if n & 1:
            out = add(out, point)
        point, n = add(point, point), n >> 1
    return out


enc = lambda p: (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")
sha512 = lambda b: hashlib.sha512(b).digest()
scalar = lambda seed: (int.from_bytes(sha512(seed)[:32], "little") & (2**254 - 8)) | 2**254
public = lambda seed: enc(times(scalar(seed), BASE))


def sign(seed, message):
    a, prefix, pub = scalar(seed), sha512(seed)[32:], public(seed)
    r = int.from_bytes(sha512(prefix + message), "little") % Q
    rp = enc(times(r, BASE))
    k = int.from_bytes(sha512(rp + pub + message), "little") % Q
    return rp + ((r + k * a) % Q).to_bytes(32, "little")


assert public(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
spki = lambda seed: bytes.fromhex("302a300506032b6570032100") + public(seed)
pkcs8 = lambda seed: bytes.fromhex("302e020100300506032b657004220420") + seed
key_id = lambda der: sha256(der)[:8]

# Registration (section 5, 12.4)
GCKS, MEMBER = b"sip:gcks@example.org", b"sip:alice@example.org"


def registration(data_type, csb, rand, t, idi, idr, nonce_i, nonce_r, i_msg, r_msg, s):
    bind = sha256(u8(data_type) + csb + L(1, rand) + L(1, t) + L(2, idi) + L(2, idr) + L(1, nonce_i) + L(1, nonce_r))
    lk = prf(s, b"ww1 reg" + bind, 32)
    th = sha256(L(4, i_msg) + L(4, r_msg))
    return dict(bind=bind, lk=lk, th=th, kPop=prf(lk, b"ww1 pop" + th, 32), kDown=prf(lk, b"ww1 down" + bind, 32), kUp=prf(lk, b"ww1 up" + bind, 32))


REG_ID, REG_SECRET = seq(0x11, 16), seq(0x31, 32)
prov = registration(255, bytes(4), REG_ID, b"", MEMBER, GCKS, b"", b"", REG_ID, b"", REG_SECRET)

# The group (section 13)
GROUP, CSB, RAND = b"meeting", bytes.fromhex("0a0b0c0d"), seq(0x90, 32)
KEK_BEFORE, KEK_AFTER, LEAF_KEY, NODE_KEY = seq(0x01, 16), seq(0x21, 16), seq(0x41, 16), seq(0x61, 16)
TEK, SALT, GTGK = seq(0xA0, 16), seq(0xC0, 14), seq(0xE0, 32)
SIGNING, OWNER = seq(0x50, 32), seq(0x70, 32)
NOW = bytes.fromhex("ee00000080000000")

label4 = lambda constant: bytes.fromhex(constant) + b"\xff" + CSB + RAND
encr_key = lambda key, n: prf(key, label4("150533e1"), n)
auth_key = lambda key: prf(key, label4("2d22ac75"), 32)
v_key = lambda kek, spi: prf(kek, b"ww1 v" + L(1, GROUP) + L(1, u32(spi)), 32)
held_id = lambda kind, spi: CSB + u8(kind) + u32(spi)
held = lambda key, ident, group=GROUP: prf(key, b"ww1 held" + L(1, group) + L(1, ident), 32)
tek_of = lambda gtgk, mki, ssrc, n: prf(gtgk, b"ww1 tek" + L(1, GROUP) + L(1, u32(mki)) + u32(ssrc), n)
salt_of = lambda gtgk, mki, ssrc, n: prf(gtgk, b"ww1 salt" + L(1, GROUP) + L(1, u32(mki)) + u32(ssrc), n)
derive = lambda secret, label, node, version, n: (mac(secret, label + u32(node) + u32(version) + b"\x01") + mac(secret, label + u32(node) + u32(version) + b"\x02"))[:n]

keys = dict(
    source="docs/protocol.md sections 5, 12 to 19, computed by group.py",
    group=h(GROUP), csbId=h(CSB), rand=h(RAND),
    kwp=[dict(key=k, plaintext=p, wrapped=w) for k, p, w in RFC5649] + [dict(key=h(KEK_BEFORE), plaintext=h(seq(0, n)), wrapped=h(kwp(KEK_BEFORE, seq(0, n)))) for n in (8, 16, 41)],
    provisioned=dict(id=h(REG_ID), secret=h(REG_SECRET), gcks=GCKS.decode(), member=MEMBER.decode(), groups=[h(GROUP)], **{k: h(v) for k, v in prov.items()}),
    v=[dict(kek=h(KEK_BEFORE), spi=7, key=h(v_key(KEK_BEFORE, 7)))],
    held=[dict(key=h(KEK_BEFORE), kekSpi=7, id=h(held_id(0, 7)), g=h(held(KEK_BEFORE, held_id(0, 7)))), dict(key=h(TEK), mki=3, id=h(held_id(1, 3)), g=h(held(TEK, held_id(1, 3))))],
    perSsrc=[dict(gtgk=h(GTGK), mki=9, ssrc=0xCAFEBABE, suite=s, tek=h(tek_of(GTGK, 9, 0xCAFEBABE, k)), salt=h(salt_of(GTGK, 9, 0xCAFEBABE, n))) for s, k, n in (("AES_CM_128_HMAC_SHA1_80", 16, 14), ("AEAD_AES_256_GCM", 32, 12))],
    signing=dict(spki=h(spki(SIGNING)), pkcs8=h(pkcs8(SIGNING)), keyId=h(key_id(spki(SIGNING)))),
    oneWay=[dict(secret=h(LEAF_KEY), label=l, node=5, version=8, octets=n, out=h(derive(LEAF_KEY, l.encode(), 5, 8, n))) for l, n in (("ww1 refresh", 16), ("ww1 chain", 32), ("ww1 chain", 64))],
)

# Messages
LAST, KEMAC, T, ID, V, SP, RAND_P, EXT, SIGNX = 0, 1, 5, 6, 9, 10, 11, 21, 241


def message(data_type, payloads):
    """HDR and payloads, given as (type, octets behind the next-payload octet); the last one may be cut short by its value."""
    types = [p[0] for p in payloads] + [LAST]
    out = u8(1) + u8(data_type) + u8(types[0]) + u8(1) + CSB + b"\x00\x00"
    for i, (_, body) in enumerate(payloads):
        out += u8(types[i + 1]) + body
    return out


t_payload = lambda n: (T, b"\x02" + u32(n))
ext = lambda kind, data: (EXT, u8(kind) + L(2, data))
id_payload = lambda data: (ID, b"\x01" + L(2, data))
param = lambda kind, value: u8(kind) + L(1, value)
sp = lambda number, prot, *params: (SP, u8(number) + u8(prot) + L(2, b"".join(params)))
key_data = lambda chain: b"".join(u8(20 if i + 1 < len(chain) else 0) + k for i, k in enumerate(chain))
tgk = lambda key, spi: b"\x01" + L(2, key) + L(1, spi)
tek_salt = lambda key, salt, mki: b"\x31" + L(2, key) + L(2, salt) + L(1, u32(mki))
gtgk_data = lambda key, mki: b"\x41" + L(2, key) + L(1, u32(mki))
spi_id = lambda spi: b"\xf2\x04" + u32(spi)
mki_id = lambda mki, sa: b"\xf3\x05" + u32(mki) + u8(sa)

SRTP = sp(201, 0, param(0, b"\x01"), param(1, b"\x10"), param(2, b"\x01"), param(3, b"\x14"), param(7, b"\x01"), param(8, b"\x01"), param(10, b"\x01"), param(11, b"\x0a"))
GROUP_SP = sp(254, 241, param(0, GROUP), param(1, u32(42)), param(2, b"\x03"), param(3, b"\x01" + u32(0x01020304)), param(4, u32(3600)), param(5, b"\x03"), param(7, b"\x02"), param(9, b"\x01"), param(10, b"owner@example.org"), param(128, u32(3)))
REKEY_SP = sp(253, 242, param(0, b"\x03\x01\x02"), param(1, b"\xf1"), param(2, b"\xf1"), param(3, b"\x01"), param(4, spki(SIGNING)), param(5, b"udp://239.0.0.1:2269"), param(7, u32(86400)), param(8, u32(10000)), param(9, u32(2000)), param(10, u32(10000)), param(11, b"\x03" + u16(250)), param(12, b"\x01"), param(14, u32(6)), param(16, u32(5)))
DATA_1 = sp(1, 243, param(0, b"\xc9"), param(1, b"\x00"), param(2, b"\x01"), param(4, b"rtp://239.0.0.2:5004"), param(5, u32(3600)), param(6, u32(3)))
DATA_2 = sp(2, 243, param(0, b"\xc9"), param(1, b"\x01"), param(3, u32(0xCAFEBABE)), param(5, u32(3600)), param(6, u32(9)))

unsigned = b"\x01\x01" + key_id(spki(OWNER)) + bytes.fromhex("ed00000000000000") + bytes.fromhex("ef00000000000000") + L(1, GROUP) + L(2, GCKS) + L(2, spki(SIGNING)) + b"\x01"
credential = unsigned + L(2, sign(OWNER, b"ww1 credential" + unsigned))

# GSA (section 15)
sync_gsa = b"\x04" + NOW + b"\x0d" + u32(0xCAFEBABE) + u32(1) + u16(65000) + b"\x02" + L(1, b"bob")
chain = key_data([tgk(KEK_BEFORE, u32(7)), tgk(LEAF_KEY, u32(5) + u32(7)), tgk(NODE_KEY, u32(2) + u32(7)), tek_salt(TEK, SALT, 3), gtgk_data(GTGK, 9)])
down_encr, down_auth = encr_key(prov["kDown"], 32), auth_key(prov["kDown"])
gsa = message(241, [t_payload(7), (RAND_P, L(1, RAND)), id_payload(GCKS), id_payload(MEMBER), GROUP_SP, REKEY_SP, SRTP, DATA_1, DATA_2, ext(245, sync_gsa), ext(246, credential), (KEMAC, b"\xf2" + L(2, kwp(down_encr, chain)) + b"\x02")])
gsa += mac(down_auth, gsa)


def sealed(payloads, kek, spi):
    """V, 128 bits, and SIGNX behind payloads (section 16)."""
    m = message(242, payloads + [(V, b"\xf1")])
    m = m[:-2] + u8(SIGNX) + b"\xf1"  # V is not the last payload
    m += mac(v_key(kek, spi), m)[:16]
    m += b"\x00\x01" + key_id(spki(SIGNING)) + u16(64)
    return m + sign(SIGNING, b"ww1 sign" + L(1, GROUP) + m)


# Rekey (16): edges are any octets here; one sender goes.
edges = u32(6) + kwp(NODE_KEY, seq(0x33, 16)) + u32(1) + kwp(LEAF_KEY, seq(0x43, 16))
gkma = b"\x03\x01\x02\x01" + u32(6) + u16(0) + u16(1) + u32(3) + u32(6) + u32(86400) + u16(0) + edges
new_tek, new_salt = seq(0xB0, 16), seq(0xD0, 14)
rekey_chain = key_data([tek_salt(new_tek, new_salt, 10), gtgk_data(seq(0x77, 32), 11)])
rekey_encr = encr_key(KEK_AFTER, 16)
rekey = sealed([t_payload(8), ext(3, spi_id(7) + mki_id(10, 1) + mki_id(11, 2)), ext(243, gkma), ext(245, b"\x00\x02" + u32(0xCAFEBABE)), (KEMAC, b"\xf1" + L(2, kwp(rekey_encr, rekey_chain)) + b"\x00")], KEK_BEFORE, 7)
heartbeat = sealed([t_payload(8), ext(3, spi_id(8)), ext(245, b"\x04" + NOW)], KEK_AFTER, 8)
end = sealed([t_payload(9), ext(3, spi_id(8)), ext(245, b"\x07" + NOW)], KEK_AFTER, 8)

# Report (18)
report = message(245, [t_payload(2), ext(3, b"\xf1" + L(1, GROUP) + b"\xf4\x04" + u32(42) + spi_id(8)), ext(245, b"\x00\x01" + u32(0x01020304) + u32(0) + u16(100) + b"\x02" + u32(0x01020305)), (V, b"\x02")])
report += mac(auth_key(prov["kUp"]), report)

# Leaving two groups (19); the registration's CSB ID is 0
OTHER_CSB, OTHER_GROUP = bytes.fromhex("0000ffff"), b"other"
proven = [(OTHER_CSB + b"\x01" + u32(4), held(seq(0x99, 16), OTHER_CSB + b"\x01" + u32(4), OTHER_GROUP)), (held_id(0, 8), held(KEK_AFTER, held_id(0, 8)))]
possession = b"\x02" + b"".join(L(1, i) + g for i, g in proven)
pop = b"\x01\x02" + b"".join(L(1, i) for i, _ in proven) + prov["th"]
ids, back = L(2, MEMBER) + L(2, GCKS), L(2, GCKS) + L(2, MEMBER)


def proof(data_type, v):
    return u8(1) + u8(data_type) + u8(T) + u8(0x80 * v + 1) + bytes(4) + b"\x00\x01" + u8(EXT) + b"\x00" + NOW + u8(V) + u8(244) + L(2, pop) + b"\x00\x02"


m = proof(243, 1)
leave = m + mac(mac(prov["kPop"], b"ww1 req" + possession), m + ids + prov["th"])
m = proof(244, 0)
leave_ack = m + mac(mac(prov["kPop"], b"ww1 ack" + possession), m + back + prov["th"] + sha256(leave))

messages = dict(
    source="docs/protocol.md sections 14 to 19, computed by group.py",
    group=h(GROUP), csbId=h(CSB), rand=h(RAND), gcks=GCKS.decode(), member=MEMBER.decode(), now=h(NOW),
    kDown=h(prov["kDown"]), kUp=h(prov["kUp"]), kekBefore=h(KEK_BEFORE), kekAfter=h(KEK_AFTER), leafKey=h(LEAF_KEY), nodeKey=h(NODE_KEY),
    tek=h(TEK), salt=h(SALT), gtgk=h(GTGK), newTek=h(new_tek), newSalt=h(new_salt), newGtgk=h(seq(0x77, 32)),
    signingPkcs8=h(pkcs8(SIGNING)), signingSpki=h(spki(SIGNING)), ownerPkcs8=h(pkcs8(OWNER)), ownerSpki=h(spki(OWNER)),
    credential=h(credential), gsaKeys=dict(encryption=h(down_encr), authentication=h(down_auth), plaintext=h(chain)), gsa=h(gsa),
    edges=h(edges), rekeyKeys=dict(v=h(v_key(KEK_BEFORE, 7)), encryption=h(rekey_encr), plaintext=h(rekey_chain)), rekey=h(rekey),
    heartbeat=h(heartbeat), end=h(end), report=h(report),
    otherGroup=h(OTHER_GROUP), otherCsbId=h(OTHER_CSB), otherTek=h(seq(0x99, 16)), leave=h(leave), leaveAcknowledgement=h(leave_ack),
)

for name, value in (("group-keys.json", keys), ("group-messages.json", messages)):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    text = json.dumps(value, indent=1) + "\n"
    if os.environ.get("CHECK"):
        if open(path).read() != text:
            raise SystemExit(name + " differs from what this script computes")
    else:
        open(path, "w").write(text)
