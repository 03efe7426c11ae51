"""Pre-shared key mode (RFC 3830 3.1, 4.5)."""

import wire
from scenario import ALICE, Vector, cs, tek, tgk


class Psk(Vector):
    def __init__(self, name, about, *, psk_octets=16, **options):
        super().__init__(name, about, "PSK", **options)
        self.psk = self.rnd("PSK", psk_octets)
        if self.psk:
            self.head["psk"] = self.psk

    def request(self, ts, keys, *, v=1, rand=True, ids=(0, 1), sps=None, exts=(), pad_to=1, sessions=None):
        kemac, record = self.kemac(ts, self.psk, keys, pad_to=pad_to)
        payloads = [
            wire.t_payload(ts),
            *([wire.rand_payload(self.rand)] if rand else []),
            *self.id_payloads(*ids),
            *(self.sps() if sps is None else sps),
            *exts,
        ]
        return self.with_kemac(0, v, payloads, kemac, record, None if sessions is None else self.map_parts(sessions))

    def response(self, ts, *, ids=(1,), sessions=None):
        return self.with_v(1, [wire.t_payload(ts), *self.id_payloads(*ids)], self.psk, ts, cs_map=self.map_parts(sessions))

    def simple(self, keys, **options):
        """One exchange with a response."""
        ts = self.ts(0)
        self.exchange("initial", ts, self.request(ts, keys, **options), self.response(ts), keys=keys)
        return self.json()


def complete():
    v = Psk(
        "psk-aes-cm-tgk-spi",
        "The default algorithms; TGK with SPI; the Responder fills in its SSRC. Then a new TGK, then a crypto session more "
        "without a new key. The ERR message answers the first message in place of the R_MESSAGE.",
        sessions=[cs(1, 0x11AA0001), cs(2, 0)],
        readings=["v-suffix", "err-v"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK 1", 16), bytes.fromhex("00000001"))]
    i_message = v.request(ts, keys)
    error = v.with_v(
        6, v.error_payloads(ts, 10, ["AES_256_CM_HMAC_SHA1_80", "AEAD_AES_256_GCM"]), v.psk, cs_map=v.NO_CS, suffix=False
    )
    both = [cs(1, 0x11AA0001), cs(2, 0x22BB0002)]
    v.exchange("initial", ts, i_message, v.response(ts, sessions=both), keys=keys, sessions=both, error=error)
    ts, keys = v.ts(60), [tgk(v.rnd("TGK 2", 16), bytes.fromhex("00000002"))]
    v.exchange("update", ts, v.request(ts, keys, rand=False, ids=(), sps=[]), v.response(ts), keys=keys)
    ts, more = v.ts(120), [cs(1, 0x11AA0001, roc=1), cs(2, 0x22BB0002), cs(3, 0x11AA0003)]
    i_message = v.request(ts, [], rand=False, sps=[], sessions=more)
    v.exchange("update", ts, i_message, v.response(ts, sessions=more), sessions=more)
    return v.json()


def one_way():
    v = Psk(
        "psk-one-way",
        "V = 0, as in an announcement: no response. A stream under way, so its ROC is not 0; RAND of 32 octets, TGK of 32 octets.",
        sessions=[cs(1, 0x11AA0001, roc=3)],
        rand_octets=32,
        ids=(ALICE, None),
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 32))]
    v.exchange("initial", ts, v.request(ts, keys, v=0, ids=(0,)), keys=keys)
    return v.json()


def no_identities():
    v = Psk(
        "psk-identities-elsewhere",
        "No ID payloads; both sides know the identities from the signalling, and V covers them all the same.",
        ids=((0, b"alice@example.org"), (0, b"bob@example.org")),
        readings=["v-suffix", "absent-identity"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 16))]
    v.exchange("initial", ts, v.request(ts, keys, ids=()), v.response(ts, ids=()), keys=keys)
    return v.json()


def empty_map():
    v = Psk(
        "psk-empty-map-tgk-salt",
        "TGK+SALT: the transported salt is the master salt of every session. Empty map (RFC 4563 5): no SP payload, policies and "
        "SSRCs are known from elsewhere. Byte-string identities (RFC 6043 6.5).",
        map_type=1,
        ids=((2, bytes.fromhex("a1a2a3a4")), (2, bytes.fromhex("b1b2b3b4b5"))),
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", 16), bytes.fromhex("0000000a"), v.rnd("SALT", 14))], sps=[])


def generic_id():
    spis = [bytes.fromhex("00000011"), bytes.fromhex("00000012")]
    v = Psk(
        "psk-generic-id-tek-salt",
        "TEK+SALT for each session, told apart by the SPIs in a GENERIC-ID map (RFC 6043 6.1.1) with explicit CS IDs; ROC and SEQ "
        "of the first. AEAD: keys of 32 and salts of 12 octets.",
        map_type=2,
        suites={1: "AEAD_AES_256_GCM"},
        sessions=[cs(5, 0x11AA0001, 2, 1, seq=0xFFF0, spi=spis[0]), cs(9, 0x22BB0002, 0, 1, spi=spis[1])],
        readings=["v-suffix", "gcm-salt"],
    )
    return v.simple([tek(v.rnd(f"TEK {i}", 32), spi, v.rnd(f"SALT {i}", 12)) for i, spi in enumerate(spis)])


def two_policies():
    v = Psk(
        "psk-two-policies",
        "Two sessions with a policy each: AES-256-CM under the first, 32-bit tags under the second; one TGK for both, so the "
        "lengths of their TEKs differ.",
        suites={0: "AES_256_CM_HMAC_SHA1_80", 7: "AES_CM_128_HMAC_SHA1_32"},
        sessions=[cs(1, 0x11AA0001), cs(2, 0x22BB0002, policy=7)],
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", 32), bytes.fromhex("00000003"))])


def gcm_from_tgk():
    v = Psk(
        "psk-gcm-tgk",
        "AEAD_AES_128_GCM from a TGK: the master salt is the leftmost 96 bits of the derived salt.",
        suites={0: "AEAD_AES_128_GCM"},
        readings=["v-suffix", "gcm-salt"],
    )
    return v.simple([tgk(v.rnd("TGK", 16))])


def intervals():
    v = Psk(
        "psk-intervals",
        "Two TGKs, each valid for an interval of packet indices (KV Interval, RFC 3830 6.14).",
        sessions=[cs(1, 0x11AA0001)],
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK 1", 16), (0, 0xFFFF)), tgk(v.rnd("TGK 2", 16), (0x10000, 0xFFFFFFFFFFFF))])


def bare_tek():
    v = Psk(
        "psk-bare-tek",
        "TEK without a salt field, for which RFC 3830 has no salt: master key and master salt in one.",
        sessions=[cs(1, 0x11AA0001)],
        readings=["v-suffix", "tek-key-salt"],
    )
    return v.simple([tek(v.rnd("TEK", 30), bytes.fromhex("0000002f"))])


def key_wrap():
    v = Psk(
        "psk-aes-kw",
        "AES key wrap; a TGK of 20 octets makes key data of 24 octets, a multiple of 8.",
        encr_alg=2,
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", 20))])


def key_wrap_salt():
    v = Psk(
        "psk-aes-kw-tgk-salt",
        "AES key wrap of TGK+SALT with an SPI of 3 octets: key data of 40 octets.",
        encr_alg=2,
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", 16), bytes.fromhex("0a0b0c"), v.rnd("SALT", 14))])


def key_wrap_padded():
    v = Psk(
        "psk-aes-kw-padded",
        "AES key wrap of key data of 25 octets, padded with zeros to 32.",
        encr_alg=2,
        readings=["v-suffix", "kw-padding"],
    )
    return v.simple([tgk(v.rnd("TGK", 16), bytes.fromhex("00000004"))], pad_to=8)


def null_encryption():
    v = Psk(
        "psk-null-encryption",
        "Keys in the clear under a MAC: only where the channel keeps them secret (RFC 3830 4.2.3).",
        encr_alg=0,
        readings=["v-suffix", "null-encryption"],
    )
    return v.simple([tgk(v.rnd("TGK", 16))])


def null_both():
    v = Psk(
        "psk-null-null",
        "NULL encryption, NULL MAC: the channel does everything (RFC 3830 4.2.4), as in ONVIF. No pre-shared key, no response.",
        encr_alg=0,
        mac_alg=0,
        sessions=[cs(1, 0x11AA0001)],
        readings=["tek-key-salt", "null-encryption"],
        psk_octets=0,
    )
    ts, keys = v.ts(0), [tek(v.rnd("TEK", 30), bytes.fromhex("0000002f"))]
    v.exchange("initial", ts, v.request(ts, keys, v=0), keys=keys)
    return v.json()


def sha256():
    v = Psk(
        "psk-prf-sha256",
        "PRF func 1, PRF-HMAC-SHA-256 (RFC 6043 6.1). The MAC stays HMAC-SHA-1-160. TGK of 32 octets, exactly one block of the PRF.",
        prf_func=1,
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", 32), bytes.fromhex("00000005"))])


def timestamp(kind, name, about, readings=()):
    v = Psk(f"psk-{name}", about, ts_type=kind, readings=["v-suffix", *readings])
    return v.simple([tgk(v.rnd("TGK", 16))])


def psk_length(octets, prf_func):
    blocks = -(-octets // 32)
    v = Psk(
        f"psk-of-{octets}-octets-prf-{prf_func}",
        f"Pre-shared key and TGK of {octets} octets: {blocks} block{'s' * (blocks > 1)} of 256 bits in the PRF, "
        "the last of them not padded and never empty (RFC 3830 4.1.2).",
        psk_octets=octets,
        prf_func=prf_func,
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", octets))])


def sdp_ids():
    v = Psk(
        "psk-sdp-ids",
        "The key management protocols of the SDP offer in a General Extension (RFC 4567 4.1.4). NAI as identities.",
        ids=((0, b"alice@example.org"), (0, b"bob@example.org")),
        readings=["v-suffix"],
    )
    return v.simple([tgk(v.rnd("TGK", 16))], exts=[wire.ext_payload(1, b"mikey;keyp1")])


def make(_credentials):
    return [
        complete(),
        one_way(),
        no_identities(),
        empty_map(),
        generic_id(),
        two_policies(),
        gcm_from_tgk(),
        intervals(),
        bare_tek(),
        key_wrap(),
        key_wrap_salt(),
        key_wrap_padded(),
        null_encryption(),
        null_both(),
        sha256(),
        timestamp(1, "t-ntp", "T of type NTP."),
        timestamp(
            2, "t-counter", "T of type COUNTER: 4 octets, 4 zero octets before them in the IV (RFC 3830 6.6).", ["counter-suffix"]
        ),
        timestamp(
            3,
            "t-ntp-utc-32",
            "T of type NTP-UTC-32 (RFC 6043 6.3): 4 octets, 4 zero octets behind them in the IV.",
            ["counter-suffix"],
        ),
        psk_length(31, 0),
        psk_length(32, 0),
        psk_length(33, 0),
        psk_length(64, 0),
        psk_length(80, 1),
        sdp_ids(),
    ]
