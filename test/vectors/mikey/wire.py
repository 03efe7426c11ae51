"""Payloads and messages (RFC 3830 6, RFC 4563 5, RFC 6043 6) with a breakdown of every field, and what protects them (RFC 3830 4.1, 4.2, 5.2)."""

from symmetric import aes_cm, aes_wrap, hmac, prf, sha, xor

LAST, KEMAC, PKE, DH, SIGN, T, ID, CERT, CHASH, V, SP, RAND, ERR, KEY_DATA, EXT, SIGNX = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    20,
    21,
    241,
)
NAME = {
    LAST: "last",
    KEMAC: "KEMAC",
    PKE: "PKE",
    DH: "DH",
    SIGN: "SIGN",
    T: "T",
    ID: "ID",
    CERT: "CERT",
    CHASH: "CHASH",
    V: "V",
    SP: "SP",
    RAND: "RAND",
    ERR: "ERR",
    KEY_DATA: "Key data",
    EXT: "General Extension",
    SIGNX: "SIGNX",
}

u8 = lambda n: n.to_bytes(1, "big")
u16 = lambda n: n.to_bytes(2, "big")
u32 = lambda n: n.to_bytes(4, "big")
u48 = lambda n: n.to_bytes(6, "big")

DATA_TYPE = {
    0: "pre-shared key message",
    1: "pre-shared key verification message",
    2: "public-key message",
    3: "public-key verification message",
    4: "D-H init",
    5: "D-H resp",
    6: "error message",
    7: "DHHMAC init",
    8: "DHHMAC resp",
    9: "RSA-R I_MSG",
    10: "RSA-R R_MSG",
}
ENCR_ALG = {0: "NULL", 1: "AES-CM-128", 2: "AES-KW-128", 3: "AES-CM-256"}
MAC_ALG = {0: "NULL", 1: "HMAC-SHA-1-160", 2: "HMAC-SHA-256-256"}
MAC_HASH, MAC_OCTETS = {1: "sha1", 2: "sha256"}, {0: 0, 1: 20, 2: 32}
ENCR_KEY, ENCR_SALT = {0: 0, 1: 16, 2: 16, 3: 32}, {0: 0, 1: 14, 2: 8, 3: 14}
PRF_NAME = {0: "MIKEY-1 (HMAC-SHA-1)", 1: "PRF-HMAC-SHA-256"}
TS_TYPE = {0: "NTP-UTC", 1: "NTP", 2: "COUNTER", 3: "NTP-UTC-32"}
ID_TYPE = {0: "NAI", 1: "URI", 2: "byte string"}
CERT_TYPE = {0: "X.509v3", 1: "X.509v3 URL", 2: "X.509v3 Sign", 3: "X.509v3 Encr"}
CHASH_FUNC = {0: ("SHA-1", "sha1"), 1: ("MD5", "md5"), 2: ("SHA-256", "sha256")}
CACHE = {0: "no cache", 1: "cache", 2: "cache for CSB"}
S_TYPE = {0: "RSA/PKCS#1/1.5", 1: "RSA/PSS"}
SIGNX_ALG = {1: "Ed25519", 2: "ECDSA P-256 SHA-256"}
DH_GROUP = {0: "OAKLEY 5", 1: "OAKLEY 1", 2: "OAKLEY 2", 241: "X25519", 242: "P-256"}
KEY_TYPE = {"TGK": 0, "TGK+SALT": 1, "TEK": 2, "TEK+SALT": 3}
EXT_TYPE = {1: "SDP IDs", 4: "CSB_ID", 241: "HELLO"}
ERROR = {10: "Invalid SPpar", 13: "Unsupported message type"}
SP_TYPE = {
    0: "encryption algorithm",
    1: "session encr. key length",
    2: "authentication algorithm",
    3: "session auth. key length",
    4: "session salt key length",
    5: "SRTP PRF",
    7: "SRTP encryption on/off",
    8: "SRTCP encryption on/off",
    10: "SRTP authentication on/off",
    11: "authentication tag length",
    20: "AEAD authentication tag length",
}


class Payload:
    """A payload without its next-payload octet: its number and (field, octets, meaning)."""

    def __init__(self, number, *parts):
        self.number, self.parts = number, list(parts)

    def body(self):
        return b"".join(octets for _, octets, _ in self.parts)

    def fill(self, octets):
        """Gives the last field, which authenticates, its value."""
        self.parts[-1] = (self.parts[-1][0], octets, self.parts[-1][2])


def lay_out(payloads, at=0, prefix=""):
    """Octets and breakdown of a chain. SIGN has no next-payload octet (RFC 3830 6.5)."""
    out, fields, seen = b"", [], {}

    def put(field, octets, meaning):
        nonlocal out
        if octets:
            fields.append({"at": at + len(out), "field": field, "hex": octets.hex(), **({"is": meaning} if meaning else {})})
        out += octets

    repeated = [p.number for p in payloads]
    for index, payload in enumerate(payloads):
        name = NAME[payload.number]
        seen[name] = seen.get(name, 0) + 1
        if repeated.count(payload.number) > 1:
            name += f"[{seen[name] - 1}]"
        if payload.number != SIGN:
            following = payloads[index + 1].number if index + 1 < len(payloads) else LAST
            put(f"{prefix}{name}.next payload", u8(following), NAME[following])
        for field, octets, meaning in payload.parts:
            put(f"{prefix}{name}.{field}", octets, meaning)
    return out, fields


class Message:
    def __init__(self, csb, data_type, v, payloads, cs_map=None):
        self.csb, self.data_type, self.v, self.payloads = csb, data_type, v, payloads
        self.cs_map = csb.map_parts() if cs_map is None else cs_map

    def _header(self):
        first = self.payloads[0].number
        return [
            ("version", u8(1), ""),
            ("data type", u8(self.data_type), DATA_TYPE[self.data_type]),
            ("next payload", u8(first), NAME[first]),
            ("V, PRF func", u8(self.v << 7 | self.csb.prf), f"V = {self.v}, {PRF_NAME[self.csb.prf]}"),
            ("CSB ID", self.csb.csb_id, ""),
            *self.cs_map,
        ]

    def octets(self):
        return b"".join(octets for _, octets, _ in self._header()) + lay_out(self.payloads)[0]

    def fields(self):
        fields, at = [], 0
        for field, octets, meaning in self._header():
            fields.append({"at": at, "field": f"HDR.{field}", "hex": octets.hex(), **({"is": meaning} if meaning else {})})
            at += len(octets)
        return fields + lay_out(self.payloads, at)[1]


def text_of(octets):
    try:
        text = octets.decode("ascii")
        return text if text.isprintable() else ""
    except UnicodeDecodeError:
        return ""


def t_payload(ts):
    return Payload(T, ("TS type", u8(ts[0]), TS_TYPE[ts[0]]), ("TS value", ts[1], ""))


def t64(ts):
    """COUNTER: four leading zero octets (RFC 3830 6.6). NTP-UTC-32: a fraction of zero (RFC 6043 6.3)."""
    return {2: bytes(4) + ts[1], 3: ts[1] + bytes(4)}.get(ts[0], ts[1])


rand_payload = lambda rand: Payload(RAND, ("RAND len", u8(len(rand)), ""), ("RAND", rand, ""))


def id_payload(identity):
    kind, data = identity
    return Payload(ID, ("ID type", u8(kind), ID_TYPE[kind]), ("ID len", u16(len(data)), ""), ("ID data", data, text_of(data)))


def cert_payload(kind, data, what):
    return Payload(CERT, ("Cert type", u8(kind), CERT_TYPE[kind]), ("Cert len", u16(len(data)), ""), ("Cert data", data, what))


def chash_payload(func, certificate):
    title, name = CHASH_FUNC[func]
    return Payload(CHASH, ("Hash func", u8(func), title), ("Hash", sha(name, certificate), ""))


def sp_payload(number, params):
    parts = []
    for kind, value in params:
        parts.append((f"param {kind}", bytes([kind, 1, value]), f"{SP_TYPE[kind]} = {value}"))
    length = sum(len(octets) for _, octets, _ in parts)
    return Payload(
        SP, ("Policy no", u8(number), ""), ("Prot type", u8(0), "SRTP"), ("Policy param length", u16(length), ""), *parts
    )


def ext_payload(kind, data):
    return Payload(EXT, ("Type", u8(kind), EXT_TYPE[kind]), ("Length", u16(len(data)), ""), ("Data", data, text_of(data)))


err_payload = lambda number: Payload(ERR, ("Error no", u8(number), ERROR[number]), ("Reserved", bytes(2), ""))


def kv_parts(kv):
    """KV data (RFC 3830 6.14). kv: None, octets of an SPI, or a pair of 48-bit packet indices."""
    if kv is None:
        return 0, []
    if isinstance(kv, bytes):
        return 1, [("SPI length", u8(len(kv)), ""), ("SPI", kv, "")]
    return 2, [("VF length", u8(6), ""), ("Valid From", u48(kv[0]), ""), ("VT length", u8(6), ""), ("Valid To", u48(kv[1]), "")]


KV_NAME = {0: "KV Null", 1: "KV SPI", 2: "KV Interval"}


def key_data_payload(key):
    kv, parts = kv_parts(key["kv"])
    kind = KEY_TYPE[key["type"]]
    salt = [("Salt len", u16(len(key["salt"])), ""), ("Salt data", key["salt"], "")] if "salt" in key else []
    assert ("salt" in key) == key["type"].endswith("SALT")
    return Payload(
        KEY_DATA,
        ("Type, KV", u8(kind << 4 | kv), f"{key['type']}, {KV_NAME[kv]}"),
        ("Key data len", u16(len(key["value"])), ""),
        ("Key data", key["value"], ""),
        *salt,
        *parts,
    )


def dh_payload(group, value, kv):
    number, parts = kv_parts(kv)
    return Payload(
        DH, ("DH-Group", u8(group), DH_GROUP[group]), ("DH-value", value, ""), ("Reserved, KV", u8(number), KV_NAME[number]), *parts
    )


def pke_payload(cache, data):
    return Payload(PKE, ("C, Data len", u16(cache << 14 | len(data)), f"{CACHE[cache]}, {len(data)} octets"), ("Data", data, ""))


def kemac_payload(encr_alg, encr_data, mac_alg):
    return Payload(
        KEMAC,
        ("Encr alg", u8(encr_alg), ENCR_ALG[encr_alg]),
        ("Encr data len", u16(len(encr_data)), ""),
        ("Encr data", encr_data, ""),
        ("MAC alg", u8(mac_alg), MAC_ALG[mac_alg]),
        ("MAC", b"", ""),
    )


v_payload = lambda alg: Payload(V, ("Auth alg", u8(alg), MAC_ALG[alg]), ("Ver data", b"", ""))
sign_payload = lambda s_type, octets: Payload(
    SIGN, ("S type, Signature len", u16(s_type << 12 | octets), f"{S_TYPE[s_type]}, {octets} octets"), ("Signature", b"", "")
)
signx_payload = lambda alg, key_id: Payload(
    SIGNX, ("alg", u8(alg), SIGNX_ALG[alg]), ("key-id", key_id, ""), ("len", u16(64), ""), ("signature", b"", "")
)

# First part of the labels: nine decimals of e each (RFC 3830 4.1.3, 4.1.4).
TEK, TGK_SALT = bytes.fromhex("2ad01c64"), bytes.fromhex("39a2c14b")
MESSAGE_ENCRYPTION, MESSAGE_AUTHENTICATION, MESSAGE_SALT = map(bytes.fromhex, ("150533e1", "2d22ac75", "29b88916"))


def message_keys(func, key, csb_id, rand, encr_alg, mac_alg):
    """RFC 3830 4.1.4: constant || 0xFF || CSB ID || RAND. Lengths: 4.2.3, 4.2.4, RFC 6043 6.2."""
    derive = lambda constant, octets: prf(func, key, constant + b"\xff" + csb_id + rand, octets)
    return {
        "encr": derive(MESSAGE_ENCRYPTION, ENCR_KEY[encr_alg]),
        "salt": derive(MESSAGE_SALT, ENCR_SALT[encr_alg]),
        "auth": derive(MESSAGE_AUTHENTICATION, MAC_OCTETS[mac_alg]),
    }


def encrypt_key_data(encr_alg, keys, csb_id, ts, plain):
    """RFC 3830 4.2.3. Returns the octets and what the cipher starts from."""
    if encr_alg == 0 or not plain:
        return plain, {}
    if encr_alg == 2:
        return aes_wrap(keys["encr"], keys["salt"], plain), {"initialValue": keys["salt"]}
    iv = xor(keys["salt"], bytes(2) + csb_id + t64(ts)) + bytes(2)
    return aes_cm(keys["encr"], iv, plain), {"iv": iv}


compute_mac = lambda alg, key, octets: hmac(MAC_HASH[alg], key, octets) if alg else b""
