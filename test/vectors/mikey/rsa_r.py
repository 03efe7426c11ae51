"""RSA-R mode (RFC 4738)."""

import wire
from credentials import GROUP_URI
from pk import cert
from scenario import ALICE, BOB, Vector, cs, tgk


class RsaR(Vector):
    def __init__(
        self,
        name,
        about,
        credentials,
        *,
        recipient="alice",
        signers=("alice", "bob"),
        scheme="rsa-pkcs1-sha1",
        pke="rsa-pkcs1",
        cache=0,
        envelope_octets=16,
        **options,
    ):
        super().__init__(name, about, "RSA-R", credentials=[*signers], **options)
        self.signers, self.recipient = [credentials[name] for name in signers], credentials[recipient]
        self.scheme, self.pke_scheme, self.cache = scheme, pke, cache
        self.envelope_key = self.rnd("envelope key", envelope_octets)

    def request(self, ts, names, *, rand, sps, sessions=None):
        payloads = [wire.t_payload(ts), *([wire.rand_payload(rand)] if rand else []), *names, *sps]
        # V is 1 and ignored (RFC 4738 3.4).
        return self.with_signature(9, 1, payloads, self.signers[0], self.scheme, "SIGN I", cs_map=self.map_parts(sessions))

    def response(self, ts, names, keys, *, rand=None, sps=(), before=(), sessions=None):
        kemac, kemac_record = self.kemac(ts, self.envelope_key, keys, identity=self.ids[1])
        self.fill_own_mac(kemac, kemac_record)
        envelope, record = self.pke(self.recipient, self.envelope_key, self.pke_scheme, self.cache, "PKE")
        payloads = [*before, wire.t_payload(ts), *([wire.rand_payload(rand)] if rand else []), *names, *sps, kemac, envelope]
        suffix = self.ids[0][1] + self.ids[1][1] + ts[1]
        return self.with_signature(
            10,
            0,
            payloads,
            self.signers[1],
            self.scheme,
            "SIGN R",
            suffix=suffix,
            cs_map=self.map_parts(sessions),
            kemac=kemac_record,
            envelope=record,
        )


def unicast(c):
    v = RsaR(
        "rsa-r-unicast-rand-by-initiator",
        "Unicast, RAND by the Initiator, who offers two policies; the Responder takes one. RSASSA-PKCS1-v1_5 with SHA-1, "
        "RSAES-PKCS1-v1_5. The envelope key is cached for the CSB, and the update is a pre-shared key message of the Initiator under it. "
        "The ERR message is signed.",
        c,
        cache=2,
        suites={0: "AES_CM_128_HMAC_SHA1_80", 1: "AEAD_AES_256_GCM"},
        readings=["sign-header", "rsa-r-signature", "pke-scheme", "rsa-r-update", "v-suffix"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK 1", 16), bytes.fromhex("00000001"))]
    one, two = [cs(1, 0x11AA0001), cs(2, 0)], [cs(1, 0x11AA0001), cs(2, 0x22BB0002)]
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(BOB)]
    i_message = v.request(ts, names, rand=v.rand, sps=v.sps(), sessions=one)
    chosen = v.sps({0: "AES_CM_128_HMAC_SHA1_80"})
    r_message = v.response(ts, [wire.id_payload(BOB), cert(c["bob"])], keys, sps=chosen, sessions=two)
    error = v.with_signature(6, 0, v.error_payloads(ts, 10, ["AES_CM_128_HMAC_SHA1_32"]), c["bob"], v.scheme, "ERR", cs_map=v.NO_CS)
    v.exchange("initial", ts, i_message, r_message, keys=keys, sessions=two, error=error)
    ts, keys = v.ts(60), [tgk(v.rnd("TGK 2", 16), bytes.fromhex("00000002"))]
    kemac, record = v.kemac(ts, v.envelope_key, keys)
    i_message = v.with_kemac(0, 1, [wire.t_payload(ts)], kemac, record)
    v.exchange("update", ts, i_message, v.with_v(1, [wire.t_payload(ts), *v.id_payloads(1)], v.envelope_key, ts), keys=keys)
    return v.json()


def unicast_rand_r(c):
    v = RsaR(
        "rsa-r-unicast-rand-by-responder",
        "Unicast, RAND by the Responder. RSASSA-PSS and RSAES-OAEP with SHA-1. The ERR message says that the request could not be "
        "parsed (13, RFC 4738 3.5) and is not authenticated.",
        c,
        rand_by="responder",
        scheme="rsa-pss-sha1",
        pke="rsa-oaep-sha1",
        readings=["sign-header", "sign-hash", "rsa-r-signature", "pke-scheme"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 16))]
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(BOB)]
    i_message = v.request(ts, names, rand=None, sps=v.sps())
    r_message = v.response(ts, [wire.id_payload(BOB), cert(c["bob"])], keys, rand=v.rand, sps=v.sps())
    error = v.unprotected(6, v.error_payloads(ts, 13), cs_map=v.NO_CS)
    v.exchange("initial", ts, i_message, r_message, keys=keys, error=error)
    return v.json()


def retargeted(c):
    v = RsaR(
        "rsa-r-retargeted",
        "The Initiator names nobody; whoever answers says who it is. SHA-256 throughout, PRF func 1, envelope key of 32 octets.",
        c,
        scheme="rsa-pkcs1-sha256",
        pke="rsa-oaep-sha256",
        prf_func=1,
        envelope_octets=32,
        readings=["sign-header", "sign-hash", "rsa-r-signature", "pke-scheme", "single-id"],
    )
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 32), bytes.fromhex("00000001"))]
    i_message = v.request(ts, [wire.id_payload(ALICE), cert(c["alice"])], rand=v.rand, sps=v.sps())
    r_message = v.response(ts, [wire.id_payload(BOB), cert(c["bob"])], keys, sps=v.sps())
    v.exchange("initial", ts, i_message, r_message, keys=keys)
    return v.json()


def group(c):
    v = RsaR(
        "rsa-r-group",
        "Group mode: the Initiator only listens (#CS = 0) and sends no SP; the Responder gives CSB ID (General Extension 4), RAND, SP and the session, "
        "whose ROC is not 0. HDR keeps the CSB ID of the request.",
        c,
        rand_by="responder",
        ids=(ALICE, (1, GROUP_URI.encode())),
        signers=("alice", "conference"),
        readings=["sign-header", "rsa-r-signature", "pke-scheme", "rsa-r-group"],
    )
    v.key_csb_id = v.rnd("CSB ID of the group", 4)
    v.head["groupCsbId"] = v.key_csb_id
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 16), bytes.fromhex("00000001"))]
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(v.ids[1])]
    i_message = v.request(ts, names, rand=None, sps=[], sessions=[])
    sessions = [cs(1, 0x33CC0001, roc=5)]
    before = [wire.ext_payload(4, v.key_csb_id)]
    r_message = v.response(
        ts, [wire.id_payload(v.ids[1]), cert(c["conference"])], keys, rand=v.rand, sps=v.sps(), before=before, sessions=sessions
    )
    v.exchange("initial", ts, i_message, r_message, keys=keys, sessions=sessions)
    return v.json()


def group_both_rands(c):
    v = RsaR(
        "rsa-r-group-rand-ignored",
        "Group mode where the Initiator sends a RAND too: it is not used (RFC 4738 3.4).",
        c,
        rand_by="responder",
        ids=(ALICE, (1, GROUP_URI.encode())),
        signers=("alice", "conference"),
        readings=["sign-header", "rsa-r-signature", "pke-scheme", "rsa-r-group"],
    )
    v.key_csb_id = v.rnd("CSB ID of the group", 4)
    v.head["groupCsbId"] = v.key_csb_id
    ts, keys = v.ts(0), [tgk(v.rnd("TGK", 16), bytes.fromhex("00000001"))]
    names = [wire.id_payload(ALICE), cert(c["alice"]), wire.id_payload(v.ids[1])]
    i_message = v.request(ts, names, rand=v.rnd("RAND of the Initiator", 16), sps=[], sessions=[])
    sessions = [cs(1, 0x33CC0001), cs(2, 0x33CC0002)]
    r_message = v.response(
        ts,
        [wire.id_payload(v.ids[1]), cert(c["conference"])],
        keys,
        rand=v.rand,
        sps=v.sps(),
        before=[wire.ext_payload(4, v.key_csb_id)],
        sessions=sessions,
    )
    v.exchange("initial", ts, i_message, r_message, keys=keys, sessions=sessions)
    return v.json()


def make(c):
    return [unicast(c), unicast_rand_r(c), retargeted(c), group(c), group_both_rands(c)]
