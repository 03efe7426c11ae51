"""Diffie-Hellman mode (RFC 3830 3.3, 4.5) and DHHMAC (RFC 4650)."""

import wire
from pk import cert
from scenario import ALICE, BOB, Vector, cs, tgk


class Dh(Vector):
    """Data types 4 and 5, signed."""

    TYPES = 4, 5

    def __init__(
        self, name, about, credentials, *, group=0, kv=None, signers=("alice", "bob"), scheme="rsa-pkcs1-sha1", mode="DH", **options
    ):
        super().__init__(name, about, mode, **options, **({"credentials": list(signers)} if signers else {}))
        self.group, self.kv, self.scheme = group, kv, scheme
        self.signers = [credentials[name] for name in signers]

    def seal(self, which, payloads, label, sessions=None, ts=None):
        cs_map = self.map_parts(sessions)
        return self.with_signature(self.TYPES[which], 1 - which, payloads, self.signers[which], self.scheme, label, cs_map=cs_map)

    def run(
        self,
        kind,
        seconds,
        step,
        *,
        values=True,
        kv=None,
        names_i,
        names_r,
        rand=False,
        sps=(),
        exts=(),
        exts_r=(),
        sessions=None,
        proposed=None,
        error=None,
    ):
        ts, kv = self.ts(seconds), self.kv if kv is None else kv
        xi = self.dh(self.group, f"xi {step}", kv) if values else None
        xr = self.dh(self.group, f"xr {step}", kv) if values else None
        i_payloads = [
            wire.t_payload(ts),
            *([wire.rand_payload(self.rand)] if rand else []),
            *names_i,
            *sps,
            *exts,
            *([xi["payload"]] if values else []),
        ]
        # IDi is always in the response (RFC 3830 3.3, RFC 4650 3).
        r_payloads = [
            wire.t_payload(ts),
            *exts_r,
            *names_r,
            wire.id_payload(self.ids[0]),
            *([xr["payload"], xi["payload"]] if values else []),
        ]
        i_message = self.seal(0, i_payloads, f"{kind} {step} I", proposed or sessions, ts)
        r_message = self.seal(1, r_payloads, f"{kind} {step} R", sessions, ts)
        note = {}
        keys = None
        if values:
            shared = self.agree(self.group, xi, xr)
            keys = [tgk(shared, kv)]
            note = {
                "dh": {
                    "group": self.group,
                    "initiatorPrivate": xi["secret"],
                    "initiatorValue": xi["value"],
                    "responderPrivate": xr["secret"],
                    "responderValue": xr["value"],
                    "shared": shared,
                }
            }
        self.exchange(kind, ts, i_message, r_message, keys=keys, sessions=sessions, error=error(ts) if error else None, **note)


class Dhhmac(Dh):
    """Data types 7 and 8; the KEMAC has no encrypted data and its MAC covers the whole message (RFC 4650 4.2)."""

    TYPES = 7, 8

    def __init__(self, name, about, **options):
        super().__init__(name, about, {}, signers=(), mode="DHHMAC", **options)
        self.psk = self.rnd("PSK", 16)
        self.head["psk"] = self.psk

    def seal(self, which, payloads, label, sessions=None, ts=None):
        kemac, record = self.kemac(ts, self.psk, [], encr_alg=0)
        return self.with_kemac(self.TYPES[which], 1 - which, payloads, kemac, record, self.map_parts(sessions))


SPI = [bytes.fromhex(f"0000000{i}") for i in range(4)]
ONE, TWO = [cs(1, 0x11AA0001), cs(2, 0)], [cs(1, 0x11AA0001), cs(2, 0x22BB0002)]
THREE = [cs(1, 0x11AA0001, roc=1), cs(2, 0x22BB0002), cs(3, 0x11AA0003)]


def complete(c):
    v = Dh(
        "dh-oakley-5-pkcs1",
        "OAKLEY group 5, RSASSA-PKCS1-v1_5 with SHA-1: the mandatory algorithms. Then an update with new values and a new SPI, then one without "
        "values that adds a crypto session under the old TGK. The ERR message is signed.",
        c,
        kv=SPI[1],
        readings=["sign-header", "dh-kv"],
    )
    names_i = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(BOB)]
    names_r = [wire.id_payload(BOB), cert(c["bob"])]
    error = lambda ts: v.with_signature(
        6, 0, v.error_payloads(ts, 10, ["AEAD_AES_128_GCM"]), c["bob"], v.scheme, "ERR", cs_map=v.NO_CS
    )
    v.run("initial", 0, 1, names_i=names_i, names_r=names_r, rand=True, sps=v.sps(), sessions=TWO, proposed=ONE, error=error)
    v.run("update", 60, 2, kv=SPI[2], names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1))
    v.run("update", 120, 3, values=False, names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1), sessions=THREE)
    return v.json()


def signed(c, name, about, **options):
    v = Dh(name, about, c, **options)
    signer_i, signer_r = v.signers
    v.run(
        "initial",
        0,
        1,
        names_i=[wire.id_payload(ALICE), cert(signer_i), wire.id_payload(BOB)],
        names_r=[wire.id_payload(BOB), cert(signer_r)],
        rand=True,
        sps=v.sps(),
    )
    return v.json()


def certificates_only(c):
    v = Dh(
        "dh-certificates-only",
        "CERTi and CERTr in place of IDi and IDr, where the identities are those of the certificates; the Responder adds IDi all the same.",
        c,
        readings=["sign-header", "certificate-identity"],
    )
    v.run("initial", 0, 1, names_i=[cert(c["alice"])], names_r=[cert(c["bob"])], rand=True, sps=v.sps())
    return v.json()


def identities_only(c):
    v = Dh(
        "dh-identities-only",
        "No certificates: both sides know the keys by the identities.",
        c,
        readings=["sign-header"],
    )
    v.run("initial", 0, 1, names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1), rand=True, sps=v.sps())
    return v.json()


def make_dh(c):
    return [
        complete(c),
        signed(c, "dh-pss", "RSASSA-PSS with SHA-1.", scheme="rsa-pss-sha1", readings=["sign-header", "sign-hash"]),
        signed(
            c,
            "dh-pkcs1-sha256-prf-1",
            "RSASSA-PKCS1-v1_5 with SHA-256, PRF func 1, AES-256-GCM. The TGK of 192 octets is 6 blocks of the PRF.",
            scheme="rsa-pkcs1-sha256",
            prf_func=1,
            suites={0: "AEAD_AES_256_GCM"},
            readings=["sign-header", "sign-hash", "gcm-salt"],
        ),
        signed(
            c,
            "dh-pss-sha256-interval",
            "RSASSA-PSS with SHA-256; the TGK is valid for an interval of packet indices.",
            scheme="rsa-pss-sha256",
            kv=(0, 0xFFFFFFFF),
            readings=["sign-header", "sign-hash", "dh-kv"],
        ),
        certificates_only(c),
        identities_only(c),
        signed(
            c,
            "dh-oakley-2",
            "OAKLEY group 2, optional and too short today: to test that it is read, and refused.",
            group=2,
            readings=["sign-header"],
        ),
        signed(
            c,
            "dh-oakley-1",
            "OAKLEY group 1, optional and much too short today: to test that it is read, and refused.",
            group=1,
            readings=["sign-header"],
        ),
    ]


def dhhmac_complete():
    v = Dhhmac(
        "dhhmac-oakley-5",
        "OAKLEY group 5, HMAC-SHA-1-160; the SDP IDs that RFC 4650 4.4 demands. Then an update with new values, then one without. The ERR "
        "message is not authenticated: RFC 4650 4.1 excludes V.",
        kv=SPI[1],
        readings=["dh-kv", "dhhmac-numbers", "dhhmac-err"],
    )
    error = lambda ts: v.unprotected(6, v.error_payloads(ts, 10, ["AEAD_AES_128_GCM"]), cs_map=v.NO_CS)
    v.run(
        "initial",
        0,
        1,
        names_i=v.id_payloads(0, 1),
        names_r=v.id_payloads(1),
        rand=True,
        sps=v.sps(),
        exts=[wire.ext_payload(1, b"mikey")],
        sessions=TWO,
        proposed=ONE,
        error=error,
    )
    v.run("update", 60, 2, kv=SPI[2], names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1))
    v.run("update", 120, 3, values=False, names_i=v.id_payloads(0, 1), names_r=v.id_payloads(1), sessions=THREE)
    return v.json()


def dhhmac_sparse():
    v = Dhhmac(
        "dhhmac-sparse",
        "What may be left out is: IDi in the first message, whose only ID is therefore IDr; IDr in the response; the SDP IDs, where no SDP is "
        "around. PRF func 1, no SPI.",
        prf_func=1,
        readings=["dhhmac-numbers", "single-id"],
    )
    v.run("initial", 0, 1, names_i=v.id_payloads(1), names_r=[], rand=True, sps=v.sps())
    return v.json()


def leading_zero(name, label, about):
    """The label is searched for once, so that the value in question begins with a zero octet."""
    v = Dhhmac(f"dhhmac-{name}", about, readings=["dhhmac-numbers"])
    v.run(
        "initial",
        0,
        label,
        names_i=v.id_payloads(0, 1),
        names_r=v.id_payloads(1),
        rand=True,
        sps=v.sps(),
        exts=[wire.ext_payload(1, b"mikey")],
    )
    return v


def make_dhhmac(_c):
    public = leading_zero(
        "public-value-leading-zero", LEADING_PUBLIC, "The public value of the Initiator begins with a zero octet, which stays."
    )
    shared = leading_zero(
        "shared-secret-leading-zero",
        LEADING_SHARED,
        "The shared secret begins with a zero octet, which is part of the TGK of 192 octets.",
    )
    assert public.exchanges[0]["dh"]["initiatorValue"][0] == 0 and shared.exchanges[0]["dh"]["shared"][0] == 0
    return [dhhmac_complete(), dhhmac_sparse(), public.json(), shared.json()]


LEADING_PUBLIC, LEADING_SHARED = 215, 143
