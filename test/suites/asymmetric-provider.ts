import * as openssl from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatBytes, formatHex, parseHex, utf8, WatchwordError } from "../../src/bytes/index.js";
import {
  type AgreementGroup,
  agreementLengths,
  type CryptoProvider,
  type EncryptionScheme,
  encryptionSchemesOf,
  type PrivateKey,
  type PublicKey,
  type PublicKeyKind,
  type SignatureScheme,
  signatureSchemesOf,
} from "../../src/crypto/index.js";
import vectors from "../vectors/asymmetric.json" with { type: "json" };

type KeyName = keyof typeof vectors.keys;

const MESSAGE = parseHex(vectors.message);
const SECRET = parseHex(vectors.secret);
const MODP = openssl.getDiffieHellman("modp5").getPrime();

const KEYS: readonly { readonly name: KeyName; readonly kind: PublicKeyKind; readonly bits: number }[] = [
  { name: "rsa2048", kind: "rsa", bits: 2048 },
  // One bit beyond whole octets: an encoded PSS block is then shorter than the modulus (RFC 8017 §8.1.1).
  { name: "rsa2049", kind: "rsa", bits: 2049 },
  { name: "rsa2048e3", kind: "rsa", bits: 2048 },
  { name: "ec-p256", kind: "ec-p256", bits: 256 },
  { name: "ed25519", kind: "ed25519", bits: 256 },
];

const REFUSED: readonly { readonly name: KeyName; readonly why: string }[] = [
  { name: "rsa1024", why: "a modulus of 1024 bits" },
  { name: "ec-p384", why: "another curve" },
];

const refusal = (code: string) => expect.objectContaining({ code });

function spkiOf(name: KeyName): Uint8Array {
  return parseHex(vectors.keys[name].spki);
}

function pkcs8Of(name: KeyName): Uint8Array {
  return parseHex(vectors.keys[name].pkcs8);
}

/** The private operation on a block of the test's choice: what a forger would like to have. */
function signRaw(name: KeyName, block: Uint8Array): Uint8Array {
  const key = openssl.createPrivateKey({ key: Buffer.from(pkcs8Of(name)), format: "der", type: "pkcs8" });
  return new Uint8Array(openssl.privateEncrypt({ key, padding: openssl.constants.RSA_NO_PADDING }, block));
}

function encryptRaw(name: KeyName, block: Uint8Array): Uint8Array {
  const key = openssl.createPublicKey({ key: Buffer.from(spkiOf(name)), format: "der", type: "spki" });
  return new Uint8Array(openssl.publicEncrypt({ key, padding: openssl.constants.RSA_NO_PADDING }, block));
}

function modulusOf(name: KeyName): Uint8Array {
  const key = openssl.createPublicKey({ key: Buffer.from(spkiOf(name)), format: "der", type: "spki" });
  return new Uint8Array(Buffer.from(key.export({ format: "jwk" }).n as string, "base64url"));
}

function number(value: bigint, length: number): Uint8Array {
  return parseHex(value.toString(16).padStart(2 * length, "0"));
}

function toBigInt(octets: Uint8Array): bigint {
  return BigInt(`0x${formatHex(octets)}`);
}

function flipped(octets: Uint8Array, bit: number): Uint8Array {
  return octets.map((octet, at) => (at === bit >> 3 ? octet ^ (1 << (bit & 7)) : octet));
}

/** What every AsymmetricProvider must do. */
export function describeAsymmetricProvider(provider: CryptoProvider): void {
  describe(`AsymmetricProvider ${provider.name}`, () => {
    const privateKeys = new Map<KeyName, PrivateKey>(KEYS.map(({ name }) => [name, provider.importPrivateKey(pkcs8Of(name))]));
    const privateKey = (name: KeyName): PrivateKey => privateKeys.get(name) as PrivateKey;

    describeKeys(provider, privateKey);
    describeSignatures(provider, privateKey);
    describeEncryption(provider, privateKey);
    describeAgreements(provider);
  });
}

function describeKeys(provider: CryptoProvider, privateKey: (name: KeyName) => PrivateKey): void {
  it.each(KEYS)("imports $name", ({ name, kind, bits }) => {
    const key = provider.importPublicKey(spkiOf(name));
    expect(key).toEqual({ kind, bits, spki: spkiOf(name) });
    expect(privateKey(name).publicKey).toEqual(key);
    expect(privateKey(name).signatureSchemes).toEqual(signatureSchemesOf(kind));
    expect(privateKey(name).encryptionSchemes).toEqual(encryptionSchemesOf(kind));
    for (const octets of [key.spki, privateKey(name).publicKey.spki])
      expect(Object.getPrototypeOf(octets)).toBe(Uint8Array.prototype);
  });

  it.each(KEYS)("refuses $name truncated at every offset, with something behind it, or of another form", ({ name }) => {
    for (const [octets, importKey] of [
      [spkiOf(name), provider.importPublicKey],
      [pkcs8Of(name), provider.importPrivateKey],
    ] as const) {
      for (let length = 0; length < octets.length; length++) {
        expect(() => importKey(octets.subarray(0, length)), `${length}`).toThrow(refusal("crypto.key"));
      }
      expect(() => importKey(concatBytes(octets, Uint8Array.of(0)))).toThrow(refusal("crypto.key"));
      expect(() => importKey(new Uint8Array(9000).fill(0x30))).toThrow(refusal("crypto.key"));
    }
    expect(() => provider.importPublicKey(pkcs8Of(name))).toThrow(refusal("crypto.key"));
    expect(() => provider.importPrivateKey(spkiOf(name))).toThrow(refusal("crypto.key"));
  });

  it("takes octets flipped or arbitrary as a key or as a typed error", () => {
    const all = KEYS.flatMap(({ name }) => [
      { octets: spkiOf(name), importKey: provider.importPublicKey as (octets: Uint8Array) => unknown },
      { octets: pkcs8Of(name), importKey: provider.importPrivateKey as (octets: Uint8Array) => unknown },
    ]);
    fc.assert(
      fc.property(fc.constantFrom(...all), fc.nat(), fc.uint8Array({ maxLength: 60 }), ({ octets, importKey }, bit, arbitrary) => {
        for (const input of [flipped(octets, bit % (8 * octets.length)), arbitrary]) {
          try {
            importKey(input);
          } catch (error) {
            expect(error).toBeInstanceOf(WatchwordError);
            expect((error as WatchwordError).code).toBe("crypto.key");
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it.each(REFUSED)("refuses $why", ({ name }) => {
    expect(() => provider.importPublicKey(spkiOf(name))).toThrow(refusal("crypto.key"));
    expect(() => provider.importPrivateKey(pkcs8Of(name))).toThrow(refusal("crypto.key"));
  });

  it("refuses an RSA key of three primes", () => {
    expect(() => provider.importPrivateKey(pkcs8Of("rsa2048primes3"))).toThrow(refusal("crypto.key"));
  });

  it("takes a short RSA key where that is asked for, and none below 1024 bits", async () => {
    const key = provider.importPublicKey(spkiOf("rsa1024"), { leastRsaBits: 1024 });
    expect(key.bits).toBe(1024);
    const ours = provider.importPrivateKey(pkcs8Of("rsa1024"), { leastRsaBits: 1 });
    expect(await provider.verify(key, "rsa-pkcs1-sha256", MESSAGE, await ours.sign("rsa-pkcs1-sha256", MESSAGE))).toBe(true);
    expect(() => provider.importPublicKey(rsaSpki(2n ** 767n + 1n, 65537n), { leastRsaBits: 1 })).toThrow(refusal("crypto.key"));
  });

  it.each([
    { what: "an even modulus", modulus: 2n ** 2047n, exponent: 65537n },
    { what: "an even exponent", modulus: 2n ** 2047n + 1n, exponent: 65536n },
    { what: "an exponent of 1", modulus: 2n ** 2047n + 1n, exponent: 1n },
    { what: "an exponent of 0", modulus: 2n ** 2047n + 1n, exponent: 0n },
    { what: "a long exponent", modulus: 2n ** 2047n + 1n, exponent: 2n ** 33n + 1n },
    { what: "a modulus of 8193 bits", modulus: 2n ** 8192n + 1n, exponent: 65537n },
    { what: "a modulus of 2047 bits", modulus: 2n ** 2046n + 1n, exponent: 65537n },
  ])("refuses $what", ({ modulus, exponent }) => {
    expect(() => provider.importPublicKey(rsaSpki(modulus, exponent))).toThrow(refusal("crypto.key"));
  });

  it("takes moduli of 2048 and 8192 bits", () => {
    expect(provider.importPublicKey(rsaSpki(2n ** 2047n + 1n, 3n)).bits).toBe(2048);
    expect(provider.importPublicKey(rsaSpki(2n ** 8191n + 1n, 65537n)).bits).toBe(8192);
  });

  it("refuses an RSA private key whose numbers do not belong together", () => {
    const pkcs8 = pkcs8Of("rsa2048");
    // Flips far behind the modulus land in the private numbers.
    for (let at = 330; at < pkcs8.length; at += 97) {
      expect(() => provider.importPrivateKey(flipped(pkcs8, 8 * at)), `${at}`).toThrow(refusal("crypto.key"));
    }
  });

  it("says nothing of a private key in a refusal", () => {
    const pkcs8 = flipped(pkcs8Of("rsa2048"), 8 * 900);
    try {
      provider.importPrivateKey(pkcs8);
      expect.unreachable();
    } catch (error) {
      expect((error as Error).message).not.toMatch(/[0-9a-f]{8}/i);
      expect((error as Error).cause).toBeUndefined();
    }
  });

  it.each([
    { what: "the point off the curve", point: concatBytes(spkiOf("ec-p256").subarray(26, 90), Uint8Array.of(1)) },
    { what: "zeros", point: concatBytes(Uint8Array.of(4), new Uint8Array(64)) },
    { what: "a coordinate that is not reduced", point: concatBytes(Uint8Array.of(4), new Uint8Array(64).fill(0xff)) },
    { what: "a hybrid form", point: concatBytes(Uint8Array.of(6), spkiOf("ec-p256").subarray(27)) },
  ])("refuses $what as a P-256 key", ({ point }) => {
    expect(() => provider.importPublicKey(concatBytes(spkiOf("ec-p256").subarray(0, 26), point))).toThrow(refusal("crypto.key"));
  });

  it.each([0n, 1n, 2n ** 256n - 1n, 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n])(
    "refuses %d as a P-256 scalar",
    (scalar) => {
      const head = parseHex("3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420");
      const importKey = (): PrivateKey => provider.importPrivateKey(concatBytes(head, number(scalar, 32)));
      if (scalar === 1n) expect(importKey().publicKey.kind).toBe("ec-p256");
      else expect(importKey).toThrow(refusal("crypto.key"));
    },
  );

  it.each([
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
  ])("refuses the Ed25519 point of small order %s", (point) => {
    expect(() => provider.importPublicKey(concatBytes(spkiOf("ed25519").subarray(0, 12), parseHex(point)))).toThrow(
      refusal("crypto.key"),
    );
  });

  it.each([
    { kind: "rsa", bits: 2048 },
    { kind: "ec-p256", bits: 256 },
    { kind: "ed25519", bits: 256 },
  ] as const)("makes $kind keys that are used at once", async ({ kind, bits }) => {
    const { pkcs8, spki } = await provider.generateKeyPair(kind);
    const key = provider.importPrivateKey(pkcs8);
    expect(key.publicKey).toEqual({ kind, bits, spki });
    const [scheme] = key.signatureSchemes as [SignatureScheme];
    expect(await provider.verify(provider.importPublicKey(spki), scheme, MESSAGE, await key.sign(scheme, MESSAGE))).toBe(true);
    expect(formatHex((await provider.generateKeyPair("ed25519")).spki)).not.toBe(formatHex(spki));
  });

  it.each([0, 1024, 2047, 2052, 8200, Number.NaN])("makes no RSA key of %d bits", async (bits) => {
    await expect(provider.generateKeyPair("rsa", bits)).rejects.toThrow(refusal("crypto.key"));
  });
}

function rsaSpki(modulus: bigint, exponent: bigint): Uint8Array {
  const integer = (value: bigint): Uint8Array => {
    const hex = value.toString(16);
    const octets = parseHex(hex.length % 2 === 0 ? hex : `0${hex}`);
    return tlv(2, (octets[0] as number) >= 0x80 ? concatBytes(Uint8Array.of(0), octets) : octets);
  };
  const key = tlv(0x30, concatBytes(integer(modulus), integer(exponent)));
  return tlv(0x30, concatBytes(parseHex("300d06092a864886f70d0101010500"), tlv(3, concatBytes(Uint8Array.of(0), key))));
}

function tlv(tag: number, content: Uint8Array): Uint8Array {
  const { length } = content;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return concatBytes(Uint8Array.of(tag, ...head), content);
}

function describeSignatures(provider: CryptoProvider, privateKey: (name: KeyName) => PrivateKey): void {
  it.each(vectors.signatures)("verifies OpenSSL's $scheme of $key", async ({ key, scheme, signature }) => {
    const publicKey = provider.importPublicKey(spkiOf(key as KeyName));
    const verify = (message: Uint8Array, octets: Uint8Array): Promise<boolean> =>
      provider.verify(publicKey, scheme as SignatureScheme, message, octets);
    const right = parseHex(signature);
    expect(await verify(MESSAGE, right)).toBe(true);
    expect(await verify(utf8("MIKEY signs what it said"), right)).toBe(false);
    for (let bit = 0; bit < 8 * right.length; bit += 37) expect(await verify(MESSAGE, flipped(right, bit))).toBe(false);
    for (const length of [0, 1, right.length - 1]) expect(await verify(MESSAGE, right.subarray(0, length))).toBe(false);
    for (const octets of [
      concatBytes(right, Uint8Array.of(0)),
      concatBytes(Uint8Array.of(0), right),
      right.map(() => 0),
      right.map(() => 0xff),
    ])
      expect(await verify(MESSAGE, octets)).toBe(false);
  });

  it.each(vectors.signatures.filter(({ scheme }) => scheme.startsWith("rsa-pkcs1") || scheme === "ed25519"))(
    "makes the same $scheme of $key as OpenSSL",
    async ({ key, scheme, signature }) => {
      expect(formatHex(await privateKey(key as KeyName).sign(scheme as SignatureScheme, MESSAGE))).toBe(signature);
    },
  );

  it.each(KEYS.flatMap(({ name, kind }) => signatureSchemesOf(kind).map((scheme) => ({ name, scheme }))))(
    "$scheme of $name is right for its message and key alone",
    async ({ name, scheme }) => {
      const key = privateKey(name);
      for (const message of [new Uint8Array(0), MESSAGE, new Uint8Array(5000).fill(1)]) {
        const signature = await key.sign(scheme, message);
        expect(signature).toHaveLength(name.startsWith("rsa") ? Math.ceil(key.publicKey.bits / 8) : 64);
        expect(await provider.verify(key.publicKey, scheme, message, signature)).toBe(true);
        expect(await provider.verify(key.publicKey, scheme, concatBytes(message, Uint8Array.of(0)), signature)).toBe(false);
        for (const other of KEYS.filter((candidate) => candidate.name !== name)) {
          expect(await provider.verify(provider.importPublicKey(spkiOf(other.name)), scheme, message, signature)).toBe(false);
        }
      }
    },
  );

  it("takes a signature under one scheme for none under another", async () => {
    for (const { name, kind } of KEYS) {
      for (const scheme of signatureSchemesOf(kind)) {
        const signature = await privateKey(name).sign(scheme, MESSAGE);
        for (const other of signatureSchemesOf("rsa").filter((candidate) => candidate !== scheme)) {
          expect(await provider.verify(privateKey(name).publicKey, other, MESSAGE, signature)).toBe(false);
        }
      }
    }
  });

  it("does not sign with a scheme of another kind of key", async () => {
    for (const { name, kind } of KEYS) {
      for (const other of ["rsa", "ec-p256", "ed25519"] as const) {
        if (other === kind) continue;
        for (const scheme of signatureSchemesOf(other))
          await expect(privateKey(name).sign(scheme, MESSAGE)).rejects.toThrow(refusal("crypto.scheme"));
      }
    }
  });

  it("verifies with a public key that another provider, or nobody, imported", async () => {
    for (const { name } of KEYS) {
      const { kind, bits, spki } = provider.importPublicKey(spkiOf(name));
      const [scheme] = signatureSchemesOf(kind) as [SignatureScheme];
      const signature = await privateKey(name).sign(scheme, MESSAGE);
      expect(await provider.verify({ kind, bits, spki }, scheme, MESSAGE, signature)).toBe(true);
    }
  });

  const digest = new Uint8Array(openssl.createHash("sha256").update(MESSAGE).digest());
  const info = parseHex("3031300d060960864801650304020105000420");
  const blockOf = (type: number, filler: number, tail: Uint8Array, garbage = 0): Uint8Array => {
    const block = new Uint8Array(256).fill(filler);
    block[0] = 0;
    block[1] = type;
    const at = 256 - tail.length - garbage;
    block[at - 1] = 0;
    block.set(tail, at);
    return block;
  };
  it.each([
    { what: "the right block", block: blockOf(1, 0xff, concatBytes(info, digest)), right: true },
    { what: "block type 0", block: blockOf(0, 0xff, concatBytes(info, digest)) },
    { what: "block type 2", block: blockOf(2, 0xff, concatBytes(info, digest)) },
    { what: "other filling", block: blockOf(1, 0xfe, concatBytes(info, digest)) },
    { what: "the digest alone", block: blockOf(1, 0xff, digest) },
    {
      what: "an algorithm without its NULL",
      block: blockOf(1, 0xff, concatBytes(parseHex("302f300b0609608648016503040201"), parseHex("0420"), digest)),
    },
    { what: "octets behind the digest (Bleichenbacher 2006)", block: blockOf(1, 0xff, concatBytes(info, digest), 100) },
    { what: "a short padding and octets behind", block: blockOf(1, 0xff, concatBytes(info, digest), 196) },
    {
      what: "another hash",
      block: blockOf(1, 0xff, concatBytes(parseHex("3021300906052b0e03021a05000414"), digest.subarray(0, 20))),
    },
  ])("takes $what for $right under RSASSA-PKCS1-v1_5", async ({ block, right = false }) => {
    const signature = signRaw("rsa2048e3", block);
    expect(await provider.verify(provider.importPublicKey(spkiOf("rsa2048e3")), "rsa-pkcs1-sha256", MESSAGE, signature)).toBe(
      right,
    );
  });

  it.each([
    { what: "no salt", saltLength: 0 },
    { what: "a short salt", saltLength: 20 },
    { what: "the longest salt", saltLength: 222 },
  ])("takes no RSASSA-PSS with $what", async ({ saltLength }) => {
    const key = openssl.createPrivateKey({ key: Buffer.from(pkcs8Of("rsa2048")), format: "der", type: "pkcs8" });
    const signature = openssl.sign("sha256", MESSAGE, { key, padding: openssl.constants.RSA_PKCS1_PSS_PADDING, saltLength });
    expect(await provider.verify(privateKey("rsa2048").publicKey, "rsa-pss-sha256", MESSAGE, signature)).toBe(false);
  });

  it.each([0, 2 ** 31])("takes no ECDSA signature of zeros or of the group's order (%#)", async () => {
    const order = parseHex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    const zero = new Uint8Array(32);
    const right = await privateKey("ec-p256").sign("ecdsa-p256-sha256", MESSAGE);
    for (const r of [zero, order, right.subarray(0, 32)]) {
      for (const s of [zero, order, new Uint8Array(32).fill(0xff)]) {
        const signature = concatBytes(r, s);
        expect(await provider.verify(privateKey("ec-p256").publicKey, "ecdsa-p256-sha256", MESSAGE, signature)).toBe(false);
      }
    }
  });

  it("takes no Ed25519 signature whose scalar is not reduced (RFC 8032 §5.1.7)", async () => {
    const signature = await privateKey("ed25519").sign("ed25519", MESSAGE);
    const order = 2n ** 252n + 27742317777372353535851937790883648493n;
    const scalar = toBigInt(signature.slice(32).reverse()) + order;
    const malleable = concatBytes(signature.subarray(0, 32), number(scalar, 32).reverse());
    expect(await provider.verify(privateKey("ed25519").publicKey, "ed25519", MESSAGE, signature)).toBe(true);
    expect(await provider.verify(privateKey("ed25519").publicKey, "ed25519", MESSAGE, malleable)).toBe(false);
  });
}

function describeEncryption(provider: CryptoProvider, privateKey: (name: KeyName) => PrivateKey): void {
  const rsa = KEYS.filter(({ kind }) => kind === "rsa").map(({ name }) => name);

  it.each(vectors.ciphertexts)("decrypts OpenSSL's $scheme to $key", async ({ key, scheme, ciphertext }) => {
    const decrypted = await privateKey(key as KeyName).decrypt(scheme as EncryptionScheme, parseHex(ciphertext), SECRET.length);
    expect(formatHex(decrypted)).toBe(vectors.secret);
  });

  it.each(rsa.flatMap((name) => encryptionSchemesOf("rsa").map((scheme) => ({ name, scheme }))))(
    "$scheme to $name comes back, of every length that fits, and is another each time",
    async ({ name, scheme }) => {
      const key = privateKey(name);
      const size = Math.ceil(key.publicKey.bits / 8);
      const most = { "rsa-pkcs1": size - 11, "rsa-oaep-sha1": size - 42, "rsa-oaep-sha256": size - 66 }[scheme];
      for (const length of [1, 16, 31, 32, 33, most]) {
        const plaintext = provider.randomBytes(length);
        const ciphertext = await provider.encrypt(key.publicKey, scheme, plaintext);
        expect(ciphertext).toHaveLength(size);
        expect(formatHex(await key.decrypt(scheme, ciphertext, length))).toBe(formatHex(plaintext));
        expect(formatHex(await provider.encrypt(key.publicKey, scheme, plaintext))).not.toBe(formatHex(ciphertext));
      }
      for (const length of [0, most + 1]) {
        await expect(provider.encrypt(key.publicKey, scheme, new Uint8Array(length))).rejects.toThrow(refusal("crypto.length"));
        await expect(key.decrypt(scheme, new Uint8Array(size), length)).rejects.toThrow(refusal("crypto.length"));
      }
    },
  );

  it("encrypts with a padding that is given, for vectors", async () => {
    const { publicKey } = privateKey("rsa2048");
    const padding = new Uint8Array(256 - 16 - 3).fill(7);
    const block = concatBytes(Uint8Array.of(0, 2), padding, Uint8Array.of(0), SECRET);
    expect(await provider.encrypt(publicKey, "rsa-pkcs1", SECRET, padding)).toEqual(encryptRaw("rsa2048", block));
    for (const [scheme, length] of [
      ["rsa-oaep-sha1", 20],
      ["rsa-oaep-sha256", 32],
    ] as const) {
      const seed = new Uint8Array(length).fill(9);
      const once = await provider.encrypt(publicKey, scheme, SECRET, seed);
      expect(await provider.encrypt(publicKey, scheme, SECRET, seed)).toEqual(once);
      expect(await privateKey("rsa2048").decrypt(scheme, once, 16)).toEqual(SECRET);
      await expect(provider.encrypt(publicKey, scheme, SECRET, seed.subarray(1))).rejects.toThrow(refusal("crypto.length"));
    }
    await expect(provider.encrypt(publicKey, "rsa-pkcs1", SECRET, padding.subarray(1))).rejects.toThrow(refusal("crypto.length"));
    await expect(provider.encrypt(publicKey, "rsa-pkcs1", SECRET, padding.fill(0, 5, 6))).rejects.toThrow(refusal("crypto.length"));
  });

  it("keys of curves neither encrypt nor decrypt", async () => {
    for (const name of ["ec-p256", "ed25519"] as const) {
      await expect(provider.encrypt(privateKey(name).publicKey, "rsa-pkcs1", SECRET)).rejects.toThrow(refusal("crypto.scheme"));
      await expect(privateKey(name).decrypt("rsa-pkcs1", new Uint8Array(256), 16)).rejects.toThrow(refusal("crypto.scheme"));
    }
  });

  describe("rejects implicitly", () => {
    const modulus = modulusOf("rsa2048");
    const filling = new Uint8Array(237).fill(0x55);
    /** 0x00 ‖ 0x02 ‖ filling ‖ 0x00 ‖ secret, changed. */
    const pkcs1 = (change: (block: Uint8Array) => void): Uint8Array => {
      const block = concatBytes(Uint8Array.of(0, 2), filling, Uint8Array.of(0), SECRET);
      change(block);
      return encryptRaw("rsa2048", block);
    };
    /** A whole OAEP encoding of the test's own (RFC 8017 §7.1.1), changed before or after the masks are put on. */
    const oaep = (before: (block: Uint8Array) => void, after: (encoded: Uint8Array) => void = () => undefined): Uint8Array => {
      const sha1 = (...parts: readonly Uint8Array[]): Uint8Array =>
        new Uint8Array(
          openssl
            .createHash("sha1")
            .update(concatBytes(...parts))
            .digest(),
        );
      const mask = (seed: Uint8Array, octets: Uint8Array): Uint8Array =>
        octets.map((octet, at) => octet ^ (sha1(seed, Uint8Array.of(0, 0, 0, Math.floor(at / 20)))[at % 20] as number));
      const seed = new Uint8Array(20).fill(3);
      const block = new Uint8Array(235);
      block.set(sha1());
      block[235 - 17] = 1;
      block.set(SECRET, 235 - 16);
      before(block);
      const masked = mask(seed, block);
      const encoded = concatBytes(Uint8Array.of(0), mask(masked, seed), masked);
      after(encoded);
      return encryptRaw("rsa2048", encoded);
    };
    const set = (at: number, value: number) => (block: Uint8Array) => block.fill(value, at, at + 1);
    const valid = { pkcs1: pkcs1(() => undefined), oaep: oaep(() => undefined) };
    const RSA = "rsa-pkcs1" as const;
    const OAEP = "rsa-oaep-sha1" as const;

    it("nothing that is right", async () => {
      expect(formatHex(await privateKey("rsa2048").decrypt(RSA, valid.pkcs1, 16))).toBe(vectors.secret);
      expect(formatHex(await privateKey("rsa2048").decrypt(OAEP, valid.oaep, 16))).toBe(vectors.secret);
    });

    const CASES: readonly {
      readonly what: string;
      readonly scheme: EncryptionScheme;
      readonly ciphertext: Uint8Array;
      readonly octets?: number;
    }[] = [
      { what: "a first octet that is not zero", scheme: RSA, ciphertext: pkcs1(set(0, 1)) },
      { what: "block type 0", scheme: RSA, ciphertext: pkcs1(set(1, 0)) },
      { what: "block type 1", scheme: RSA, ciphertext: pkcs1(set(1, 1)) },
      { what: "block type 3", scheme: RSA, ciphertext: pkcs1(set(1, 3)) },
      { what: "a padding of no octets", scheme: RSA, ciphertext: pkcs1(set(2, 0)) },
      { what: "a padding of seven octets", scheme: RSA, ciphertext: pkcs1(set(9, 0)) },
      { what: "a zero within a long enough padding", scheme: RSA, ciphertext: pkcs1(set(100, 0)) },
      { what: "a zero one octet early", scheme: RSA, ciphertext: pkcs1(set(238, 0)) },
      { what: "no zero before the secret", scheme: RSA, ciphertext: pkcs1(set(239, 0x55)) },
      { what: "no zero at all", scheme: RSA, ciphertext: pkcs1((block) => block.fill(0x55, 2)) },
      { what: "zeros only", scheme: RSA, ciphertext: pkcs1((block) => block.fill(0)) },
      { what: "a secret that is one octet shorter than expected", scheme: RSA, ciphertext: valid.pkcs1, octets: 17 },
      { what: "a secret that is one octet longer than expected", scheme: RSA, ciphertext: valid.pkcs1, octets: 15 },
      { what: "OAEP instead", scheme: RSA, ciphertext: valid.oaep },
      { what: "a ciphertext of no octets", scheme: RSA, ciphertext: new Uint8Array(0) },
      { what: "a ciphertext one octet short", scheme: RSA, ciphertext: valid.pkcs1.subarray(1) },
      { what: "a ciphertext one octet long", scheme: RSA, ciphertext: concatBytes(Uint8Array.of(0), valid.pkcs1) },
      { what: "a ciphertext of 16383 octets", scheme: RSA, ciphertext: new Uint8Array(16383) },
      { what: "the ciphertext 0", scheme: RSA, ciphertext: new Uint8Array(256) },
      { what: "the ciphertext 1", scheme: RSA, ciphertext: number(1n, 256) },
      { what: "the modulus as ciphertext", scheme: RSA, ciphertext: modulus },
      { what: "more than the modulus as ciphertext", scheme: RSA, ciphertext: new Uint8Array(256).fill(0xff) },
      { what: "a first octet that is not zero", scheme: OAEP, ciphertext: oaep(() => undefined, set(0, 1)) },
      { what: "another label", scheme: OAEP, ciphertext: oaep(set(0, 0)) },
      { what: "another last octet of the label", scheme: OAEP, ciphertext: oaep(set(19, 0)) },
      { what: "padding that is not zero", scheme: OAEP, ciphertext: oaep(set(20, 0x80)) },
      { what: "an early separator", scheme: OAEP, ciphertext: oaep(set(100, 1)) },
      { what: "no separator", scheme: OAEP, ciphertext: oaep(set(218, 0)) },
      { what: "another separator", scheme: OAEP, ciphertext: oaep(set(218, 3)) },
      { what: "a changed seed", scheme: OAEP, ciphertext: oaep(() => undefined, set(5, 0)) },
      { what: "another hash", scheme: "rsa-oaep-sha256", ciphertext: valid.oaep },
      { what: "a secret that is one octet shorter than expected", scheme: OAEP, ciphertext: valid.oaep, octets: 17 },
      { what: "a secret that is one octet longer than expected", scheme: OAEP, ciphertext: valid.oaep, octets: 15 },
      { what: "PKCS1 instead", scheme: OAEP, ciphertext: valid.pkcs1 },
      { what: "a ciphertext one octet short", scheme: OAEP, ciphertext: valid.oaep.subarray(1) },
      { what: "more than the modulus as ciphertext", scheme: OAEP, ciphertext: new Uint8Array(256).fill(0xff) },
    ];

    it.each(CASES)("$scheme: $what", async ({ scheme, ciphertext, octets = 16 }) => {
      const key = privateKey("rsa2048");
      const rejected = await key.decrypt(scheme, ciphertext, octets);
      expect(rejected).toHaveLength(octets);
      expect(Object.getPrototypeOf(rejected)).toBe(Uint8Array.prototype);
      // The same for the same ciphertext, also where the key was imported again.
      expect(await key.decrypt(scheme, ciphertext, octets)).toEqual(rejected);
      expect(await provider.importPrivateKey(pkcs8Of("rsa2048")).decrypt(scheme, ciphertext, octets)).toEqual(rejected);
      // HMAC-SHA-256 in counter mode, computed here once more.
      expect(formatHex(rejected)).toBe(formatHex(expectedRejection(ciphertext, octets)));
    });

    it("different ciphertexts with different octets, that nobody without the key foresees", async () => {
      const ciphertexts = new Map(
        CASES.filter(({ scheme }) => scheme === RSA).map(({ ciphertext }) => [formatHex(ciphertext), ciphertext]),
      );
      ciphertexts.delete(formatHex(valid.pkcs1));
      const results = new Set<string>();
      for (const ciphertext of ciphertexts.values())
        results.add(formatHex(await privateKey("rsa2048").decrypt(RSA, ciphertext, 16)));
      expect(results.size).toBe(ciphertexts.size);
      const other = await privateKey("rsa2048e3").decrypt(RSA, valid.pkcs1, 16);
      expect(formatHex(other)).not.toBe(formatHex(await privateKey("rsa2048").decrypt(RSA, flipped(valid.pkcs1, 3), 16)));
    });
  });
}

function expectedRejection(ciphertext: Uint8Array, octets: number): Uint8Array {
  const key = openssl.createPrivateKey({ key: Buffer.from(pkcs8Of("rsa2048")), format: "der", type: "pkcs8" });
  const exponent = Buffer.from(key.export({ format: "jwk" }).d as string, "base64url");
  const padded = Buffer.concat([Buffer.alloc(256 - exponent.length), exponent]);
  const secret = openssl.createHash("sha256").update(padded).digest();
  const inner = openssl.createHmac("sha256", secret).update(ciphertext).digest();
  const blocks = [0, 1].map((counter) => openssl.createHmac("sha256", inner).update(Uint8Array.of(counter)).digest());
  return new Uint8Array(Buffer.concat(blocks)).slice(0, octets);
}

function describeAgreements(provider: CryptoProvider): void {
  it.each(vectors.agreements)("agrees in $group as computed from its definition", async (vector) => {
    const group = vector.group as AgreementGroup;
    const privateValue = parseHex(vector.ours);
    const ours = await provider.agreement(group, privateValue);
    expect(formatHex(privateValue)).toBe(vector.ours);
    expect(ours.group).toBe(group);
    expect(formatHex(ours.publicValue)).toBe(vector.ourValue);
    expect(formatHex((await ours.agree(parseHex(vector.theirValue))) as Uint8Array)).toBe(vector.secret);
    const theirs = await provider.agreement(group, parseHex(vector.theirs));
    expect(formatHex((await theirs.agree(ours.publicValue)) as Uint8Array)).toBe(vector.secret);
  });

  it.each(["modp1536", "x25519", "p256"] as const)("two ends of %s agree, on another secret each time", async (group) => {
    const [first, second, third] = [
      await provider.agreement(group),
      await provider.agreement(group),
      await provider.agreement(group),
    ];
    const secret = (await first.agree(second.publicValue)) as Uint8Array;
    expect(secret).toHaveLength(agreementLengths[group].secret);
    expect(first.publicValue).toHaveLength(agreementLengths[group].publicValue);
    expect(await second.agree(first.publicValue)).toEqual(secret);
    expect(await third.agree(first.publicValue)).not.toEqual(secret);
    for (const octets of [secret, first.publicValue]) expect(Object.getPrototypeOf(octets)).toBe(Uint8Array.prototype);
    first.wipe();
    first.wipe();
    await expect(first.agree(second.publicValue)).rejects.toThrow(refusal("crypto.wiped"));
  });

  it.each(["modp768", "modp1024"] as const)("does not agree in %s", async (group) => {
    await expect(provider.agreement(group)).rejects.toThrow(refusal("crypto.group"));
  });

  it.each([
    { group: "modp1536", length: 0 },
    { group: "modp1536", length: 19 },
    { group: "modp1536", length: 192 },
    { group: "x25519", length: 31 },
    { group: "p256", length: 33 },
  ] as const)("takes no private value of $length octets for $group", async ({ group, length }) => {
    await expect(provider.agreement(group, new Uint8Array(length).fill(1))).rejects.toThrow(refusal("crypto.length"));
  });

  it("takes neither zero nor a number beyond the group's order for a P-256 scalar", async () => {
    for (const fill of [0, 0xff])
      await expect(provider.agreement("p256", new Uint8Array(32).fill(fill))).rejects.toThrow(refusal("crypto.length"));
    await expect(provider.agreement("modp1536", new Uint8Array(32))).rejects.toThrow(refusal("crypto.length"));
  });

  const p = toBigInt(MODP);
  const point = parseHex(vectors.agreements.find(({ group }) => group === "p256")?.theirValue as string);
  const REFUSED_VALUES: readonly { readonly group: AgreementGroup; readonly what: string; readonly value: Uint8Array }[] = [
    { group: "modp1536", what: "0", value: number(0n, 192) },
    { group: "modp1536", what: "1", value: number(1n, 192) },
    { group: "modp1536", what: "p-1", value: number(p - 1n, 192) },
    { group: "modp1536", what: "p", value: number(p, 192) },
    { group: "modp1536", what: "p+1", value: number(p + 1n, 192) },
    { group: "modp1536", what: "p+2", value: number(p + 2n, 192) },
    { group: "modp1536", what: "p-2, of order 2q", value: number(p - 2n, 192) },
    { group: "modp1536", what: "p-4, of order 2q", value: number(p - 4n, 192) },
    { group: "modp1536", what: "all ones", value: new Uint8Array(192).fill(0xff) },
    { group: "modp1536", what: "nothing", value: new Uint8Array(0) },
    { group: "modp1536", what: "2 without its leading zeros", value: Uint8Array.of(2) },
    { group: "modp1536", what: "4 in one octet more", value: number(4n, 193) },
    { group: "modp1536", what: "4 in one octet less", value: number(4n, 191) },
    { group: "p256", what: "a point off the curve", value: flipped(point, 8 * 64) },
    { group: "p256", what: "a point of the twist", value: concatBytes(Uint8Array.of(4), number(1n, 32), number(1n, 32)) },
    { group: "p256", what: "the point of zeros", value: concatBytes(Uint8Array.of(4), new Uint8Array(64)) },
    { group: "p256", what: "infinity", value: Uint8Array.of(0) },
    { group: "p256", what: "infinity in 65 octets", value: new Uint8Array(65) },
    { group: "p256", what: "the compressed form", value: concatBytes(Uint8Array.of(2), point.subarray(1, 33)) },
    { group: "p256", what: "a hybrid form", value: concatBytes(Uint8Array.of(6 + ((point[64] as number) & 1)), point.subarray(1)) },
    {
      group: "p256",
      what: "coordinates that are not reduced",
      value: concatBytes(Uint8Array.of(4), new Uint8Array(64).fill(0xff)),
    },
    ...[
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "0100000000000000000000000000000000000000000000000000000000000080",
    ].map((hex) => ({ group: "x25519" as const, what: `small order, ${hex}`, value: parseHex(hex) })),
    { group: "x25519", what: "31 octets", value: new Uint8Array(31).fill(9) },
    { group: "x25519", what: "33 octets", value: new Uint8Array(33).fill(9) },
  ];
  it.each(REFUSED_VALUES)("$group: does not agree with $what", async ({ group, value }) => {
    const ours = await provider.agreement(group);
    expect(await ours.agree(value)).toBeUndefined();
  });

  it("modp1536: agrees with the least and greatest values of the subgroup", async () => {
    const ours = await provider.agreement("modp1536");
    // p is 7 mod 8: 2 and its inverse are squares, -1 is none.
    for (const value of [2n, 4n, (p + 1n) / 2n]) expect(await ours.agree(number(value, 192))).toHaveLength(192);
  });

  it("modp1536: accepts a value exactly where Euler's criterion does", async () => {
    const ours = await provider.agreement("modp1536");
    const q = (p - 1n) / 2n;
    await fc.assert(
      fc.asyncProperty(fc.bigInt({ min: 2n, max: p - 2n }), async (value) => {
        const secret = await ours.agree(number(value, 192));
        expect(secret !== undefined).toBe(power(value, q, p) === 1n);
      }),
      { numRuns: 15 },
    );
  });
}

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let [result, square] = [1n, base];
  for (let left = exponent; left > 0n; left >>= 1n) {
    if ((left & 1n) === 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

/** Two providers on each other's keys, signatures, ciphertexts and public values. */
export function describeAsymmetricAgreement(first: CryptoProvider, second: CryptoProvider): void {
  const pairs = [
    { ours: first, theirs: second },
    { ours: second, theirs: first },
  ].map((pair) => ({ ...pair, name: `${pair.ours.name} to ${pair.theirs.name}` }));

  it.each(pairs)("signatures, $name", async ({ ours, theirs }) => {
    for (const { name, kind } of KEYS) {
      const key = ours.importPrivateKey(pkcs8Of(name));
      for (const scheme of signatureSchemesOf(kind)) {
        const message = ours.randomBytes(100);
        const signature = await key.sign(scheme, message);
        expect(await theirs.verify(theirs.importPublicKey(spkiOf(name)), scheme, message, signature)).toBe(true);
        expect(await theirs.verify(key.publicKey, scheme, message, flipped(signature, 77))).toBe(false);
      }
    }
  });

  it.each(pairs)("ciphertexts and their rejection, $name", async ({ ours, theirs }) => {
    for (const { name } of KEYS.filter(({ kind }) => kind === "rsa")) {
      const publicKey: PublicKey = ours.importPublicKey(spkiOf(name));
      const [ourKey, theirKey] = [ours.importPrivateKey(pkcs8Of(name)), theirs.importPrivateKey(pkcs8Of(name))];
      for (const scheme of encryptionSchemesOf("rsa")) {
        const ciphertext = await ours.encrypt(publicKey, scheme, SECRET);
        expect(await theirKey.decrypt(scheme, ciphertext, 16)).toEqual(SECRET);
        const forged = flipped(ciphertext, 8 * 250);
        expect(await theirKey.decrypt(scheme, forged, 40)).toEqual(await ourKey.decrypt(scheme, forged, 40));
      }
    }
  });

  it.each(pairs)("agreements, $name", async ({ ours, theirs }) => {
    for (const group of ["modp1536", "x25519", "p256"] as const) {
      for (let round = 0; round < 4; round++) {
        const [one, other] = [await ours.agreement(group), await theirs.agreement(group)];
        expect(await one.agree(other.publicValue)).toEqual(await other.agree(one.publicValue));
      }
    }
  });

  it.each(pairs)("generated keys, $name", async ({ ours, theirs }) => {
    for (const kind of ["ec-p256", "ed25519"] as const) {
      const { pkcs8, spki } = await ours.generateKeyPair(kind);
      expect(theirs.importPrivateKey(pkcs8).publicKey).toEqual({ kind, bits: 256, spki });
    }
  });
}
