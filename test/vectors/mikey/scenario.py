"""One vector: a crypto session bundle, its exchanges, and the record of everything that went into the octets."""

import wire
from groups import GROUPS, ecdsa_sign, ed25519_sign
from rsa import oaep_encrypt, pkcs1_encrypt, pkcs1_padding, pkcs1_sign, pss_sign
from symmetric import prf, rnd, sha
from wire import Message, u8, u16, u32

# Suite: SP parameters (RFC 3830 6.10.1, RFC 7714 14.3), octets of the master key, of the master salt.
_HMAC = lambda key, tag: [(0, 1), (1, key), (2, 1), (3, 20), (7, 1), (8, 1), (10, 1), (11, tag)]
_GCM = lambda key: [(0, 6), (1, key), (2, 0), (4, 12), (5, 0), (7, 1), (8, 1), (20, 16)]
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (_HMAC(16, 10), 16, 14),
    "AES_CM_128_HMAC_SHA1_32": (_HMAC(16, 4), 16, 14),
    "AES_256_CM_HMAC_SHA1_80": (_HMAC(32, 10), 32, 14),
    "AEAD_AES_128_GCM": (_GCM(16), 16, 12),
    "AEAD_AES_256_GCM": (_GCM(32), 32, 12),
}
CM80 = "AES_CM_128_HMAC_SHA1_80"

ALICE = (1, b"sip:alice@example.org")
BOB = (1, b"sip:bob@example.org")


def ntp(seconds, fraction=0):
    """NTP-UTC, seconds after 2026-01-01T00:00:00Z."""
    return (1767225600 + 2208988800 + seconds).to_bytes(4, "big") + fraction.to_bytes(4, "big")


def tgk(value, kv=None, salt=None):
    return {"type": "TGK" if salt is None else "TGK+SALT", "value": value, "kv": kv, **({} if salt is None else {"salt": salt})}


def tek(value, kv=None, salt=None):
    return {"type": "TEK" if salt is None else "TEK+SALT", "value": value, "kv": kv, **({} if salt is None else {"salt": salt})}


def cs(cs_id, ssrc, roc=0, policy=0, **more):
    return {"csId": cs_id, "policyNo": policy, "ssrc": ssrc, "roc": roc, **more}


class Vector:
    def __init__(
        self,
        name,
        about,
        mode,
        *,
        ids=(ALICE, BOB),
        prf_func=0,
        map_type=0,
        sessions=None,
        suites=None,
        rand_octets=16,
        rand_by="initiator",
        encr_alg=1,
        mac_alg=1,
        readings=(),
        ts_type=0,
        **inputs,
    ):
        self.name, self.mode, self.prf, self.ids = name, mode, prf_func, ids
        self.csb_id, self.rand = self.rnd("CSB ID", 4), self.rnd("RAND", rand_octets)
        self.map_type, self.sessions = map_type, sessions or [cs(1, 0x11AA0001), cs(2, 0x22BB0002)]
        self.suites = {0: CM80} if suites is None else suites
        self.encr_alg, self.mac_alg, self.ts_type = encr_alg, mac_alg, ts_type
        # What the keys and the IV are derived with. In RSA-R group mode the Responder has its own values (RFC 4738 3.6).
        self.key_csb_id, self.key_rand = self.csb_id, self.rand
        self.keys, self.exchanges = [], []
        identity = lambda i: None if i is None else {"type": i[0], "data": i[1], "text": wire.text_of(i[1])}
        self.head = {
            "name": name,
            "about": about,
            "mode": mode,
            **({"readings": list(readings)} if readings else {}),
            "prfFunc": prf_func,
            "csbId": self.csb_id,
            "rand": self.rand,
            "randBy": rand_by,
            "initiator": identity(ids[0]),
            "responder": identity(ids[1]),
            "mapType": map_type,
            "policies": [{"policyNo": number, "suite": suite} for number, suite in self.suites.items()],
            **inputs,
        }

    def rnd(self, label, octets):
        return rnd(f"{self.name} {label}", octets)

    def ts(self, seconds):
        if self.ts_type == 2:
            return 2, (seconds + 7).to_bytes(4, "big")
        return self.ts_type, ntp(seconds, 0x80000000)[: 4 if self.ts_type == 3 else 8]

    # HDR: #CS, map type, map info.
    def map_parts(self, sessions=None):
        sessions = self.sessions if sessions is None else sessions
        parts = [
            ("#CS", u8(len(sessions)), ""),
            ("CS ID map type", u8(self.map_type), {0: "SRTP-ID", 1: "Empty", 2: "GENERIC-ID"}[self.map_type]),
        ]
        for index, session in enumerate(sessions):
            name = f"CS[{index}]"
            if self.map_type == 0:
                parts += [
                    (f"{name}.Policy_no", u8(session["policyNo"]), f"CS ID {session['csId']}"),
                    (f"{name}.SSRC", u32(session["ssrc"]), ""),
                    (f"{name}.ROC", u32(session["roc"]), ""),
                ]
            elif self.map_type == 2:
                located = "seq" in session
                data = u32(session["ssrc"]) + (u32(session["roc"]) + u16(session["seq"]) if located else b"")
                parts += [
                    (f"{name}.CS ID", u8(session["csId"]), ""),
                    (f"{name}.Prot type", u8(0), "SRTP"),
                    (f"{name}.S, #P", u8(located << 7 | 1), f"S = {int(located)}, 1 policy"),
                    (f"{name}.Policy_no", u8(session["policyNo"]), ""),
                    (f"{name}.Session Data Length", u16(len(data)), ""),
                    (f"{name}.Session Data", data, "SSRC, ROC, SEQ" if located else "SSRC"),
                    (f"{name}.SPI Length", u8(len(session.get("spi", b""))), ""),
                    *([(f"{name}.SPI", session["spi"], "")] if "spi" in session else []),
                ]
        return parts

    def sps(self, suites=None):
        return [wire.sp_payload(number, SUITES[suite][0]) for number, suite in (self.suites if suites is None else suites).items()]

    def id_payloads(self, *which):
        return [wire.id_payload(self.ids[i]) for i in which]

    # KEMAC.
    def message_keys(self, inkey, encr_alg, mac_alg):
        return wire.message_keys(self.prf, inkey, self.key_csb_id, self.key_rand, encr_alg, mac_alg)

    def kemac(self, ts, inkey, keys, *, identity=None, encr_alg=None, mac_alg=None, pad_to=1):
        """The payload with its MAC still to be filled in, and its record."""
        encr_alg = self.encr_alg if encr_alg is None else encr_alg
        mac_alg = self.mac_alg if mac_alg is None else mac_alg
        first = [] if identity is None else [wire.id_payload(identity)]
        plain, fields = wire.lay_out([*first, *map(wire.key_data_payload, keys)])
        if padding := bytes(-len(plain) % pad_to):
            fields.append({"at": len(plain), "field": "padding", "hex": padding.hex()})
            plain += padding
        derived = self.message_keys(inkey, encr_alg, mac_alg) if inkey else {"encr": b"", "salt": b"", "auth": b""}
        data, start = wire.encrypt_key_data(encr_alg, derived, self.key_csb_id, ts, plain)
        record = {
            "encrAlg": encr_alg,
            "macAlg": mac_alg,
            "inkey": inkey,
            "encrKey": derived["encr"],
            "saltKey": derived["salt"],
            "authKey": derived["auth"],
            **start,
            "keyData": plain,
            "keyDataFields": fields,
            "encrData": data,
        }
        return wire.kemac_payload(encr_alg, data, mac_alg), record

    @staticmethod
    def fill_mac(payload, record, covered):
        record["macInput"] = covered
        record["mac"] = wire.compute_mac(record["macAlg"], record["authKey"], covered)
        payload.fill(record["mac"])

    def fill_own_mac(self, payload, record):
        """PK, RSA-R: over the KEMAC payload alone, its next payload set to 0 (RFC 3830 5.2, 6.2)."""
        self.fill_mac(payload, record, u8(wire.LAST) + payload.body())

    # PKE.
    def pke(self, recipient, envelope_key, scheme, cache, label):
        if scheme == "rsa-pkcs1":
            padding = pkcs1_padding(recipient.secret, f"{self.name} {label} padding", len(envelope_key))
            data, random = pkcs1_encrypt(recipient.secret, envelope_key, padding), {"padding": padding}
        else:
            name = scheme.removeprefix("rsa-oaep-")
            seed = self.rnd(f"{label} OAEP seed", len(sha(name)))
            data, random = oaep_encrypt(recipient.secret, name, envelope_key, seed), {"seed": seed}
        record = {"scheme": scheme, "recipient": recipient.name, "envelopeKey": envelope_key, **random, "data": data}
        return wire.pke_payload(cache, data), record

    # Messages that end with their protection.
    def _record(self, message, **more):
        return {"octets": message.octets(), "fields": message.fields(), **more}

    def with_kemac(self, data_type, v, payloads, kemac, record, cs_map=None):
        """PSK, DHHMAC: the MAC covers the whole message."""
        message = Message(self, data_type, v, [*payloads, kemac], cs_map)
        self.fill_mac(kemac, record, message.octets())
        return self._record(message, kemac=record)

    def with_v(self, data_type, payloads, inkey, ts=None, *, alg=None, cs_map=None, suffix=True):
        """V covers the message, then Identity_i, Identity_r and T (RFC 3830 5.2); in an ERR message nothing more than the message."""
        alg = self.mac_alg if alg is None else alg
        verification = wire.v_payload(alg)
        message = Message(self, data_type, 0, [*payloads, verification], cs_map)
        key = self.message_keys(inkey, 0, alg)["auth"]
        covered = message.octets() + (self.ids[0][1] + self.ids[1][1] + ts[1] if suffix else b"")
        verification.fill(wire.compute_mac(alg, key, covered))
        record = {"authAlg": alg, "authKey": key, "input": covered, "mac": verification.parts[-1][1]}
        return self._record(message, verification=record)

    def with_signature(self, data_type, v, payloads, signer, scheme, label, *, suffix=b"", cs_map=None, **more):
        """SIGN or SIGNX cover everything before the signature itself, their own header included; RSA-R appends a suffix (RFC 4738 3.6)."""
        if scheme.startswith("rsa"):
            last = wire.sign_payload(1 if "pss" in scheme else 0, signer.secret.octets)
        else:
            last = wire.signx_payload(1 if scheme == "ed25519" else 2, sha("sha256", signer.spki)[:8])
        message = Message(self, data_type, v, [*payloads, last], cs_map)
        # docs/protocol.md 16.3: a label and the group, which is empty between two parties, stand before what SIGNX signs.
        prefix = b"" if scheme.startswith("rsa") else b"ww1 sign" + u8(0)
        covered, random = prefix + message.octets() + suffix, {}
        name = scheme.rsplit("-", 1)[-1]
        if scheme.startswith("rsa-pkcs1"):
            signature = pkcs1_sign(signer.secret, name, covered)
        elif scheme.startswith("rsa-pss"):
            salt = self.rnd(f"{label} PSS salt", len(sha(name)))
            signature, random = pss_sign(signer.secret, name, covered, salt), {"salt": salt}
        elif scheme == "ed25519":
            signature = ed25519_sign(signer.secret, covered)
        else:
            signature, nonce = ecdsa_sign(signer.secret, covered)
            random = {"nonce": nonce}
        last.fill(signature)
        record = {"scheme": scheme, "signer": signer.name, "input": covered, **random, "signature": signature}
        return self._record(message, **more, signature=record)

    def unprotected(self, data_type, payloads, cs_map=None):
        """An ERR message that nothing authenticates."""
        return self._record(Message(self, data_type, 0, payloads, cs_map))

    NO_CS = [("#CS", u8(0), ""), ("CS ID map type", u8(0), "SRTP-ID")]

    def error_payloads(self, ts, number, suites=()):
        return [wire.t_payload(ts), wire.err_payload(number), *(wire.sp_payload(i, SUITES[s][0]) for i, s in enumerate(suites))]

    # What came of an exchange.
    def derive(self, key, session):
        _, key_octets, salt_octets = SUITES[self.suites[session["policyNo"]]]
        fixed = u8(session["csId"]) + self.key_csb_id + self.key_rand
        validity = (
            {} if key["kv"] is None else {"spi": key["kv"]} if isinstance(key["kv"], bytes) else {"interval": list(key["kv"])}
        )
        if key["type"].startswith("TGK"):
            label = wire.TEK + fixed
            out = {"tekLabel": label, "tek": prf(self.prf, key["value"], label, key_octets)}
            if "salt" in key:
                return {**validity, **out, "salt": key["salt"]}
            label = wire.TGK_SALT + fixed
            return {**validity, **out, "saltLabel": label, "salt": prf(self.prf, key["value"], label, salt_octets)}
        if "salt" in key:
            return {**validity, "tek": key["value"], "salt": key["salt"]}
        return {**validity, "tek": key["value"][:key_octets], "salt": key["value"][key_octets:]}

    def exchange(self, kind, ts, i_message, r_message=None, *, keys=None, sessions=None, error=None, **inputs):
        """Notes an exchange and the state that it leaves."""
        if keys is not None:
            self.keys = keys
        if sessions is not None:
            self.sessions = sessions
        kv = lambda k: {} if k is None else {"spi": k} if isinstance(k, bytes) else {"interval": list(k)}
        self.exchanges.append(
            {
                "kind": kind,
                "timestamp": {"type": ts[0], "value": ts[1]},
                **inputs,
                "iMessage": i_message,
                **({"rMessage": r_message} if r_message else {}),
                **({"errMessage": error} if error else {}),
                "keys": [
                    {"type": k["type"], "key": k["value"], **({"salt": k["salt"]} if "salt" in k else {}), **kv(k["kv"])}
                    for k in self.keys
                ],
                "cryptoSessions": [
                    {
                        "csId": s["csId"],
                        "policyNo": s["policyNo"],
                        "ssrc": u32(s["ssrc"]),
                        "roc": s["roc"],
                        **({"seq": s["seq"]} if "seq" in s else {}),
                        "masterKeys": [self.derive(k, s) for k in self.keys if "spi" not in s or s["spi"] == k["kv"]],
                    }
                    for s in self.sessions
                ],
            }
        )

    def dh(self, group, label, kv):
        """A fresh pair and its payload."""
        secret = self.rnd(label, 32)
        value = GROUPS[group][1](secret)
        return {"secret": secret, "value": value, "payload": wire.dh_payload(group, value, kv)}

    def agree(self, group, own, peer):
        shared = GROUPS[group][2](own["secret"], peer["value"])
        assert shared == GROUPS[group][2](peer["secret"], own["value"])
        return shared

    def json(self):
        return {**self.head, "exchanges": self.exchanges}
