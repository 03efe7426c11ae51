"""The additions of docs/protocol.md and MAC alg 2 in the modes of RFC 3830: used only between parties that both announced them."""

import wire
from dh import SPI, Dh, Dhhmac
from pk import HELLO, Pk, cert
from psk import Psk
from scenario import ALICE, BOB, tgk


def hellos(v):
    return [HELLO(v.rnd(f"HELLO of {who}", 16)) for who in ("initiator", "responder")]


def sha256_psk():
    v = Psk(
        "private-psk-hmac-sha256",
        "MAC alg 2 (HMAC-SHA-256-256) and Encr alg 3 (AES-CM-256), which RFC 6043 6.2 defines for its own modes, with PRF func 1; then an update.",
        prf_func=1,
        mac_alg=2,
        encr_alg=3,
        psk_octets=32,
        readings=["v-suffix"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK 1", 32), SPI[1])]
    v.exchange("initial", ts, v.request(ts, keys), v.response(ts), keys=keys)
    ts, keys = v.ts(60), [tgk(v.rnd("TGK 2", 32), SPI[2])]
    v.exchange("update", ts, v.request(ts, keys, rand=False, ids=(), sps=[]), v.response(ts), keys=keys)
    return v.json()


def dhhmac(name, group, about):
    v = Dhhmac(f"private-dhhmac-{name}", about, group=group, kv=SPI[1], prf_func=1, mac_alg=2, readings=["dh-kv"])
    hello_i, hello_r = hellos(v)
    v.run(
        "initial",
        0,
        1,
        names_i=v.id_payloads(0, 1),
        names_r=v.id_payloads(1),
        rand=True,
        sps=v.sps(),
        exts=[wire.ext_payload(1, b"mikey"), hello_i],
        exts_r=[hello_r],
    )
    v.run("update", 60, 2, kv=SPI[2], names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1))
    return v.json()


def dh_signx(c, name, group, kind, scheme, about):
    v = Dh(
        f"private-dh-{name}",
        about,
        c,
        group=group,
        kv=SPI[1],
        signers=(f"alice-{kind}", f"bob-{kind}"),
        scheme=scheme,
        prf_func=1,
        readings=["dh-kv"],
    )
    hello_i, hello_r = hellos(v)
    signer_i, signer_r = v.signers
    v.run(
        "initial",
        0,
        1,
        names_i=[wire.id_payload(ALICE), cert(signer_i), wire.id_payload(BOB)],
        names_r=[wire.id_payload(BOB), cert(signer_r)],
        rand=True,
        sps=v.sps(),
        exts=[hello_i],
        exts_r=[hello_r],
    )
    v.run("update", 60, 2, kv=SPI[2], names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1))
    return v.json()


def pk_signx(c, kind, scheme, about):
    v = Pk(
        f"private-pk-{kind}",
        about,
        c,
        signer=f"alice-{kind}",
        scheme=scheme,
        pke="rsa-oaep-sha256",
        prf_func=1,
        mac_alg=2,
        envelope_octets=32,
        readings=["v-suffix", "pke-scheme"],
    )
    hello_i, hello_r = hellos(v)
    names = [wire.id_payload(ALICE), cert(v.signer), wire.id_payload(BOB)]
    return v.simple([tgk(v.rnd("TGK", 32), SPI[1])], names=names, exts=[hello_i], exts_r=[hello_r])


def make(c):
    return [
        sha256_psk(),
        dhhmac("x25519", 241, "DHHMAC over X25519 (DH-Group 241) with MAC alg 2 and PRF func 1; then an update with new values."),
        dhhmac("p256", 242, "DHHMAC over P-256 (DH-Group 242): points of 65 octets, the TGK is the x coordinate."),
        dh_signx(
            c,
            "x25519-ed25519",
            241,
            "ed25519",
            "ed25519",
            "DH over X25519, signed by Ed25519 in SIGNX; then an update with new values.",
        ),
        dh_signx(
            c,
            "p256-ecdsa",
            242,
            "p256",
            "ecdsa-p256-sha256",
            "DH over P-256, signed by ECDSA in SIGNX (r and s of 32 octets each).",
        ),
        pk_signx(c, "ed25519", "ed25519", "Public-key mode signed by Ed25519 in SIGNX; the envelope key still goes to an RSA key."),
        pk_signx(c, "p256", "ecdsa-p256-sha256", "Public-key mode signed by ECDSA in SIGNX."),
    ]
