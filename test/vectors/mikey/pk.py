"""Public-key mode (RFC 3830 3.2, 4.5)."""

import wire
from scenario import ALICE, BOB, Vector, cs, tgk

HELLO = lambda nonce: wire.ext_payload(241, b"\x01" + nonce + b"\x00")


class Pk(Vector):
    def __init__(
        self,
        name,
        about,
        credentials,
        *,
        signer="alice",
        scheme="rsa-pkcs1-sha1",
        recipient="bob",
        pke="rsa-pkcs1",
        cache=0,
        envelope_octets=16,
        **options,
    ):
        super().__init__(name, about, "PK", credentials=[signer, recipient], **options)
        self.signer, self.recipient, self.scheme, self.pke_scheme, self.cache = (
            credentials[signer],
            credentials[recipient],
            scheme,
            pke,
            cache,
        )
        self.envelope_octets, self.v_alg = envelope_octets, self.mac_alg or 1

    def request(self, ts, keys, step, *, v=1, rand=True, names, sps=None, kemac=True, chash=None, exts=()):
        envelope_key = self.rnd(f"envelope key {step}", self.envelope_octets)
        payloads = [
            wire.t_payload(ts),
            *([wire.rand_payload(self.rand)] if rand else []),
            *names,
            *(self.sps() if sps is None else sps),
            *exts,
        ]
        more = {}
        if kemac:
            sealed, record = self.kemac(ts, envelope_key, keys, identity=self.ids[0])
            self.fill_own_mac(sealed, record)
            payloads.append(sealed)
            more["kemac"] = record
        if chash is not None:
            payloads.append(wire.chash_payload(chash, self.recipient.certificate))
        envelope, record = self.pke(self.recipient, envelope_key, self.pke_scheme, self.cache, f"PKE {step}")
        message = self.with_signature(
            2, v, [*payloads, envelope], self.signer, self.scheme, f"SIGN {step}", envelope=record, **more
        )
        return message, envelope_key

    def response(self, ts, envelope_key, *, ids=(1,), exts=(), sessions=None):
        payloads = [wire.t_payload(ts), *exts, *self.id_payloads(*ids)]
        return self.with_v(3, payloads, envelope_key, ts, alg=self.v_alg, cs_map=self.map_parts(sessions))

    def simple(self, keys, *, exts_r=(), ids_r=(1,), **options):
        ts = self.ts(0)
        i_message, envelope_key = self.request(ts, keys, 1, **options)
        self.exchange("initial", ts, i_message, self.response(ts, envelope_key, exts=exts_r, ids=ids_r), keys=keys)
        return self.json()


def cert(key, kind=0):
    return wire.cert_payload(kind, key.certificate, f"certificate of {key.name}")


def cached(c):
    v = Pk(
        "pk-pkcs1-cached",
        "RSAES-PKCS1-v1_5 and RSASSA-PKCS1-v1_5 with SHA-1, the mandatory algorithms. The envelope key is cached for the CSB, so the update "
        "is a pre-shared key message (data type 0) with the envelope key as pre-shared key, and its response is of data type 1.",
        c,
        cache=2,
        sessions=[cs(1, 0x11AA0001), cs(2, 0)],
        readings=["v-suffix", "sign-header", "pke-scheme", "err-v"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK 1", 16), bytes.fromhex("00000001"))]
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(BOB)]
    i_message, envelope_key = v.request(ts, keys, 1, names=names)
    both = [cs(1, 0x11AA0001), cs(2, 0x22BB0002)]
    error = v.with_v(6, v.error_payloads(ts, 10, ["AEAD_AES_128_GCM"]), envelope_key, cs_map=v.NO_CS, suffix=False)
    v.exchange("initial", ts, i_message, v.response(ts, envelope_key, sessions=both), keys=keys, sessions=both, error=error)
    ts, keys = v.ts(60), [tgk(v.rnd("TGK 2", 16), bytes.fromhex("00000002"))]
    kemac, record = v.kemac(ts, envelope_key, keys)
    i_message = v.with_kemac(0, 1, [wire.t_payload(ts)], kemac, record)
    r_message = v.with_v(1, [wire.t_payload(ts), *v.id_payloads(1)], envelope_key, ts)
    v.exchange("update", ts, i_message, r_message, keys=keys)
    return v.json()


def not_cached(c):
    v = Pk(
        "pk-oaep-pss-chash",
        "RSAES-OAEP and RSASSA-PSS, both with SHA-1; the key of the Responder named by CHASH (SHA-1); a certificate chain of two. The envelope "
        "key is not cached: each update is a public-key message with a new one. The first carries a new TGK; the second adds a crypto session, "
        "its KEMAC holding the ID alone (RFC 3830 6.2); the third has no KEMAC at all, which still lets V be computed (4.5).",
        c,
        signer="alice-chain",
        scheme="rsa-pss-sha1",
        recipient="bob-encryption",
        pke="rsa-oaep-sha1",
        readings=["v-suffix", "sign-header", "sign-hash", "pke-scheme", "pk-update-kemac"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK 1", 16), bytes.fromhex("00000001"))]
    names = [wire.id_payload(ALICE), cert(c["alice-chain"]), cert(c["users"]), wire.id_payload(BOB)]
    i_message, envelope_key = v.request(ts, keys, 1, names=names, chash=0)
    v.exchange("initial", ts, i_message, v.response(ts, envelope_key), keys=keys)
    ts, keys = v.ts(60), [tgk(v.rnd("TGK 2", 16), bytes.fromhex("00000002"))]
    i_message, envelope_key = v.request(ts, keys, 2, names=v.id_payloads(0, 1), rand=False, sps=[])
    v.exchange("update", ts, i_message, v.response(ts, envelope_key), keys=keys)
    more = [cs(1, 0x11AA0001, roc=1), cs(2, 0x22BB0002, roc=1), cs(3, 0x11AA0003)]
    for step, seconds, kemac in ((3, 120, True), (4, 180, False)):
        ts, v.sessions = v.ts(seconds), more
        i_message, envelope_key = v.request(ts, [], step, names=v.id_payloads(0, 1), rand=False, sps=[], kemac=kemac)
        v.exchange("update", ts, i_message, v.response(ts, envelope_key), sessions=more)
    return v.json()


def sha256(c):
    v = Pk(
        "pk-sha256",
        "SHA-256 throughout: RSASSA-PKCS1-v1_5 and RSAES-OAEP with SHA-256, CHASH of SHA-256 (RFC 6043 6.7), PRF func 1; an envelope key of 32 octets, "
        "cached beyond the CSB (C = 1). TGK of 32 octets, AES-256.",
        c,
        scheme="rsa-pkcs1-sha256",
        recipient="bob-encryption",
        pke="rsa-oaep-sha256",
        cache=1,
        envelope_octets=32,
        prf_func=1,
        suites={0: "AEAD_AES_256_GCM"},
        readings=["v-suffix", "sign-header", "sign-hash", "pke-scheme", "gcm-salt"],
    )
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(BOB)]
    return v.simple([tgk(v.rnd("TGK", 32), bytes.fromhex("00000001"))], names=names, chash=2)


def pss_sha256(c):
    v = Pk(
        "pk-pss-sha256",
        "RSASSA-PSS with SHA-256 and a salt of 32 octets; the certificate is for signatures only (Cert type 2).",
        c,
        scheme="rsa-pss-sha256",
        readings=["v-suffix", "sign-header", "sign-hash", "pke-scheme"],
    )
    return v.simple([tgk(v.rnd("TGK", 16))], names=[wire.id_payload(ALICE), cert(c["alice"], 2), wire.id_payload(BOB)])


def key_wrap(c):
    v = Pk(
        "pk-aes-kw-null-mac",
        "AES key wrap with NULL MAC, as RFC 3830 4.2.3 recommends for this mode. ID and key data make 48 octets: SPI of 2 octets.",
        c,
        encr_alg=2,
        mac_alg=0,
        readings=["v-suffix", "sign-header", "pke-scheme", "null-mac-v"],
    )
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(BOB)]
    return v.simple([tgk(v.rnd("TGK", 16), bytes.fromhex("0001"))], names=names)


def certificate_only(c):
    v = Pk(
        "pk-certificate-only",
        "CERTi in place of IDi: the identity is the one in the KEMAC, which is that of the certificate.",
        c,
        readings=["v-suffix", "sign-header", "pke-scheme", "kemac-identity", "single-id"],
    )
    return v.simple([tgk(v.rnd("TGK", 16))], names=[cert(c["alice"]), wire.id_payload(BOB)])


def identity_only(c):
    v = Pk(
        "pk-identity-only",
        "IDi without CERTi: the Responder knows the key by the identity. TGK+SALT; the Responder leaves IDr out.",
        c,
        readings=["v-suffix", "sign-header", "pke-scheme", "absent-identity"],
    )
    return v.simple([tgk(v.rnd("TGK", 16), bytes.fromhex("00000001"), v.rnd("SALT", 14))], names=v.id_payloads(0, 1), ids_r=())


def certificate_url(c):
    v = Pk(
        "pk-certificate-url",
        "The certificate by its URL (Cert type 1), no response (V = 0).",
        c,
        readings=["sign-header", "pke-scheme"],
    )
    names = [
        wire.id_payload(ALICE),
        wire.cert_payload(1, b"http://pki.example.org/alice.cer", "URL of the certificate of alice"),
        wire.id_payload(BOB),
    ]
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 16))]
    i_message, _ = v.request(ts, keys, 1, v=0, names=names)
    v.exchange("initial", ts, i_message, keys=keys)
    return v.json()


def make(c):
    return [
        cached(c),
        not_cached(c),
        sha256(c),
        pss_sha256(c),
        key_wrap(c),
        certificate_only(c),
        identity_only(c),
        certificate_url(c),
    ]
