import { X509Certificate } from "node:crypto";
import { AsnConvert } from "@peculiar/asn1-schema";
import * as asn1 from "@peculiar/asn1-x509";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { concatBytes, formatHex, parseHex, utf8 } from "../../../src/bytes/index.js";
import {
  type CertificateError,
  type CertificateUsage,
  certificateHash,
  nobleCrypto,
  type PrivateKey,
} from "../../../src/crypto/index.js";
import {
  type CertificateVerifierOptions,
  createCertificateVerifier,
  type Issuer,
  issueCertificate,
  issueRevocationList,
  readCertificate,
} from "../../../src/crypto/x509/index.js";
import { readRevocationList } from "../../../src/crypto/x509/revocation.js";
import { encodeEcdsa } from "../../../src/crypto/x509/signatures.js";
import { nodeCrypto } from "../../../src/node/crypto.js";
import openssl from "../../vectors/x509-openssl.json" with { type: "json" };
import { ALICE, DAY, makeAuthority, makeKey, makeLeaf, NOW, reasonOf } from "./authority.js";

const SIGNATURE = { now: NOW, usage: "signature" } as const;
const AS_ALICE = { ...SIGNATURE, identity: ALICE } as const;

let root: Issuer;
let intermediate: Issuer;
let leaf: Uint8Array;

beforeAll(async () => {
  root = await makeAuthority();
  intermediate = await makeAuthority({}, root);
  leaf = await makeLeaf(intermediate);
});

function verifier(options: Partial<CertificateVerifierOptions> = {}) {
  return createCertificateVerifier({ roots: [root.certificate], ...options });
}

describe("a certificate is verified", () => {
  it("through an intermediate, and says whom it names", async () => {
    const verified = await verifier().verify([leaf, intermediate.certificate], AS_ALICE);
    expect(verified.identities).toEqual([ALICE]);
    expect(verified.subject).toBe("CN=alice");
    expect(verified.trust).toBe("anchor");
    expect(verified.publicKey.kind).toBe("ec-p256");
    expect(verified.notAfter).toBe(NOW + DAY);
    expect(verified.chain).toEqual([leaf, intermediate.certificate]);
    expect(formatHex(verified.fingerprint)).toBe(new X509Certificate(leaf).fingerprint256.replaceAll(":", "").toLowerCase());
    expect(verified.fingerprint).toEqual(certificateHash(nobleCrypto, "sha256", leaf));
  });

  it("again, whatever became of what was given and answered before", async () => {
    const checking = verifier();
    const given = [leaf.slice(), intermediate.certificate.slice()];
    const before = await checking.verify(given, AS_ALICE);
    const [fingerprint, issuers] = [before.fingerprint.slice(), before.issuers.map((issuer) => issuer.slice())];
    for (let time = 0; time < 2; time++) {
      const again = await checking.verify([leaf, intermediate.certificate], AS_ALICE);
      expect(again.fingerprint).toEqual(fingerprint);
      expect(again.issuers).toEqual(issuers);
      expect(again.chain).toEqual([leaf, intermediate.certificate]);
      for (const octets of [...given, before.fingerprint, again.fingerprint, ...again.issuers]) octets.fill(0);
    }
    expect(await reasonOf(checking.verify(given, AS_ALICE))).not.toBe("accepted");
  });

  it("for what it is for, however often it was good for something else", async () => {
    const checking = verifier();
    const chain = [leaf, intermediate.certificate];
    for (let time = 0; time < 2; time++) {
      expect(await reasonOf(checking.verify(chain, AS_ALICE))).toBe("accepted");
      expect(await reasonOf(checking.verify(chain, { ...AS_ALICE, usage: "encryption" }))).toBe("key");
      expect(await reasonOf(checking.verify(chain, AS_ALICE))).toBe("accepted");
      expect(await reasonOf(checking.verify(chain, { ...AS_ALICE, now: NOW + 10 * DAY }))).toBe("expired");
    }
  });

  it("with its issuers in any order, the root and strangers among them", async () => {
    const stranger = await makeAuthority({ commonName: "stranger" });
    const chain = [leaf, stranger.certificate, root.certificate, intermediate.certificate];
    expect(await reasonOf(verifier().verify(chain, AS_ALICE))).toBe("accepted");
  });

  it("again and again, and again with the portable provider", async () => {
    const remembering = verifier({ crypto: nobleCrypto });
    for (let i = 0; i < 3; i++)
      expect(await reasonOf(remembering.verify([leaf, intermediate.certificate], AS_ALICE))).toBe("accepted");
    // What was remembered is a path, not its validity.
    expect(await reasonOf(remembering.verify([leaf, intermediate.certificate], { ...AS_ALICE, now: NOW + 2 * DAY }))).toBe(
      "expired",
    );
    expect(
      await reasonOf(remembering.verify([leaf, intermediate.certificate], { ...AS_ALICE, identity: "sip:bob@example.org" })),
    ).toBe("identity");
    expect(await reasonOf(remembering.verify([leaf, intermediate.certificate], { now: NOW, usage: "encryption" }))).toBe("key");
    expect(await reasonOf(remembering.verify([leaf, intermediate.certificate], AS_ALICE))).toBe("accepted");
  });

  it("where it is itself among the anchors, as of no authority", async () => {
    const own = await makeLeaf(undefined);
    const pinned = await verifier({ roots: [own] }).verify([own], AS_ALICE);
    expect(pinned.trust).toBe("pinned");
    expect(pinned.chain).toEqual([own]);
    const issued = await verifier({ roots: [leaf] }).verify([leaf, intermediate.certificate], AS_ALICE);
    expect(issued.trust).toBe("pinned");
    expect(await reasonOf(verifier({ roots: [own] }).verify([own], { ...AS_ALICE, now: NOW + 2 * DAY }))).toBe("expired");
  });

  it("where it is self-signed and that is allowed by name", async () => {
    const own = await makeLeaf(undefined);
    const allowing = verifier({ roots: [], allowSelfSigned: true });
    expect((await allowing.verify([own], AS_ALICE)).trust).toBe("self-signed");
    expect(await reasonOf(allowing.verify([own], { ...AS_ALICE, identity: "sip:bob@example.org" }))).toBe("identity");
    expect(await reasonOf(allowing.verify([own], { ...AS_ALICE, now: NOW + 2 * DAY }))).toBe("expired");
    expect(await reasonOf(allowing.verify([own], { now: NOW, usage: "encryption" }))).toBe("key");
    expect(await reasonOf(allowing.verify([leaf], AS_ALICE))).toBe("untrusted");
    const forged = own.slice();
    forged[forged.length - 1] = (forged[forged.length - 1] as number) ^ 1;
    expect(await reasonOf(allowing.verify([forged], AS_ALICE))).toBe("signature");
  });

  it.each(openssl.chains)("of OpenSSL, signed by $name: $accepted", async ({ leaf: der, root: anchor, accepted }) => {
    for (const crypto of [nodeCrypto, nobleCrypto]) {
      const attempt = createCertificateVerifier({ roots: [parseHex(anchor)], crypto }).verify([parseHex(der)], {
        ...AS_ALICE,
        now: openssl.now,
      });
      expect(await reasonOf(attempt)).toBe(accepted ? "accepted" : "signature");
    }
    const { identities } = readCertificate(parseHex(der));
    expect(identities).toEqual([ALICE, "alice@example.org", "example.org", "192.0.2.7", "2001:db8::7"]);
  });

  it("and what is issued here is understood by OpenSSL", async () => {
    for (const kind of ["ec-p256", "ed25519", "rsa"] as const) {
      const authority = await makeAuthority({}, undefined, await makeKey(kind));
      const issued = new X509Certificate(
        await makeLeaf(authority, { dnsNames: ["example.org"], addresses: ["192.0.2.7", "2001:db8::7"] }),
      );
      const anchor = new X509Certificate(authority.certificate);
      expect(anchor.ca).toBe(true);
      expect(issued.ca).toBe(false);
      expect(issued.checkIssued(anchor)).toBe(true);
      expect(issued.verify(anchor.publicKey)).toBe(true);
      expect(issued.checkHost("example.org")).toBe("example.org");
      expect(issued.checkIP("2001:db8::7")).toBe("2001:db8::7");
      expect(issued.subjectAltName).toBe(`URI:${ALICE}, DNS:example.org, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7`);
    }
  });
});

describe("a certificate is refused", () => {
  it("for another identity", async () => {
    const chain = [leaf, intermediate.certificate];
    expect(await reasonOf(verifier().verify(chain, { ...SIGNATURE, identity: "sip:mallory@example.org" }))).toBe("identity");
  });

  it.each([
    { what: "before", now: NOW - DAY - 1000, reason: "not-yet-valid" },
    { what: "at the beginning of", now: NOW - DAY, reason: "accepted" },
    { what: "at the end of", now: NOW + DAY, reason: "accepted" },
    { what: "after", now: NOW + DAY + 1000, reason: "expired" },
    { what: "without a time within", now: Number.NaN, reason: "not-yet-valid" },
  ])("$what its validity: $reason", async ({ now, reason }) => {
    expect(await reasonOf(verifier().verify([leaf, intermediate.certificate], { ...AS_ALICE, now }))).toBe(reason);
  });

  it("when an issuer's validity is over, the anchor's too", async () => {
    const short = await makeAuthority({ notAfter: NOW }, root);
    const under = await makeLeaf(short);
    expect(await reasonOf(verifier().verify([under, short.certificate], AS_ALICE))).toBe("accepted");
    expect(await reasonOf(verifier().verify([under, short.certificate], { ...AS_ALICE, now: NOW + 1000 }))).toBe("expired");
    const old = await makeAuthority({ notBefore: NOW - 2 * DAY, notAfter: NOW - 1000 });
    expect(await reasonOf(verifier({ roots: [old.certificate] }).verify([await makeLeaf(old)], AS_ALICE))).toBe("expired");
  });

  it("under another root, of the same name or of another", async () => {
    const chain = [leaf, intermediate.certificate];
    const other = await makeAuthority();
    expect(
      await reasonOf(verifier({ roots: [(await makeAuthority({ commonName: "other" })).certificate] }).verify(chain, AS_ALICE)),
    ).toBe("untrusted");
    expect(await reasonOf(verifier({ roots: [other.certificate] }).verify(chain, AS_ALICE))).toBe("untrusted");
    // Without key identifiers that tell them apart, the signature does.
    const impostor = await makeLeaf({ certificate: root.certificate, signer: other.signer });
    expect(await reasonOf(verifier().verify([impostor], AS_ALICE))).toBe("untrusted");
    expect(await reasonOf(verifier({ roots: [] }).verify(chain, AS_ALICE))).toBe("untrusted");
  });

  it("without its intermediate, and self-signed", async () => {
    expect(await reasonOf(verifier().verify([leaf], AS_ALICE))).toBe("untrusted");
    expect(await reasonOf(verifier().verify([await makeLeaf(undefined)], AS_ALICE))).toBe("untrusted");
    // A self-signed certificate with the root's own name.
    expect(await reasonOf(verifier().verify([await makeLeaf(undefined, { commonName: "root" })], AS_ALICE))).toBe("untrusted");
  });

  it("of an issuer that is no authority", async () => {
    const key = await makeKey();
    const holder: Issuer = { certificate: await makeLeaf(root, {}, key), signer: key };
    const below = await makeLeaf(holder, { commonName: "below" });
    expect(await reasonOf(verifier().verify([below, holder.certificate], AS_ALICE))).toBe("not-a-ca");
    // Nor of one that is pinned.
    expect(await reasonOf(verifier({ roots: [holder.certificate] }).verify([below], AS_ALICE))).toBe("not-a-ca");
    expect(await reasonOf(verifier({ roots: [holder.certificate] }).verify([holder.certificate], AS_ALICE))).toBe("accepted");
  });

  it("further down than its issuers allow", async () => {
    const flat = await makeAuthority({ authority: { pathLength: 0 } });
    const roots = [flat.certificate];
    const middle = await makeAuthority({}, flat);
    expect(await reasonOf(verifier({ roots }).verify([await makeLeaf(flat)], AS_ALICE))).toBe("accepted");
    expect(await reasonOf(verifier({ roots }).verify([await makeLeaf(middle), middle.certificate], AS_ALICE))).toBe("path-length");
    // A certificate that the issuer made for itself, under a new key, is not counted (RFC 5280 §6.1.4 l).
    const renewed = await makeAuthority({ commonName: "root" }, flat);
    expect(await reasonOf(verifier({ roots }).verify([await makeLeaf(renewed), renewed.certificate], AS_ALICE))).toBe("accepted");
  });

  it.each([
    { usages: ["signature"], asked: ["signature"], reason: "accepted" },
    { usages: ["signature"], asked: ["encryption"], reason: "key-usage" },
    { usages: ["encryption"], asked: ["signature"], reason: "key-usage" },
    { usages: ["encryption"], asked: ["encryption"], reason: "accepted" },
    { usages: ["signature", "encryption"], asked: ["signature", "encryption"], reason: "accepted" },
    { usages: ["signature"], asked: ["signature", "encryption"], reason: "key-usage" },
    { usages: undefined, asked: ["signature", "encryption"], reason: "accepted" },
  ] as const)("for $asked where it is for $usages: $reason", async ({ usages, asked, reason }) => {
    const certificate = await makeLeaf(root, usages === undefined ? { usages: undefined as never } : { usages }, await rsaKey());
    expect(await reasonOf(verifier().verify([certificate], { now: NOW, usage: asked }))).toBe(reason);
  });

  it("for encryption with a key that cannot encrypt", async () => {
    const certificate = await makeLeaf(root, { usages: ["signature", "encryption"] });
    expect(await reasonOf(verifier().verify([certificate], { now: NOW, usage: "encryption" }))).toBe("key");
  });

  it.each([
    { purposes: ["1.3.6.1.5.5.7.3.20"], reason: "accepted" },
    { purposes: ["1.3.6.1.5.5.7.3.2"], reason: "accepted" },
    { purposes: ["2.5.29.37.0"], reason: "accepted" },
    { purposes: ["1.3.6.1.5.5.7.3.3"], reason: "extended-key-usage" },
    { purposes: ["1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.3"], reason: "extended-key-usage" },
  ])("for calls where it is for $purposes: $reason", async ({ purposes, reason }) => {
    const certificate = await makeLeaf(root, { extendedKeyUsages: purposes });
    expect(await reasonOf(verifier().verify([certificate], AS_ALICE))).toBe(reason);
    const strict = verifier({ extendedKeyUsages: ["1.3.6.1.5.5.7.3.3"] });
    const expected = purposes.includes("1.3.6.1.5.5.7.3.3") || purposes.includes("2.5.29.37.0") ? "accepted" : "extended-key-usage";
    expect(await reasonOf(strict.verify([certificate], AS_ALICE))).toBe(expected);
  });

  it("with a critical extension that is not understood, the holder's and an issuer's", async () => {
    // policyConstraints in place of basicConstraints: an object identifier of the same length.
    const replace = (der: Uint8Array): Uint8Array => parseHex(formatHex(der).replace("0603551d13", "0603551d24"));
    expect(readCertificate(replace(leaf)).unknownCritical).toEqual(["2.5.29.36"]);
    expect(await reasonOf(verifier({ roots: [replace(leaf)] }).verify([replace(leaf)], AS_ALICE))).toBe("critical-extension");
    expect(
      await reasonOf(verifier({ roots: [replace(root.certificate)] }).verify([leaf, intermediate.certificate], AS_ALICE)),
    ).toBe("critical-extension");
  });

  it("when it is too long, and with no certificate or too many", async () => {
    const many = new Array<Uint8Array>(9).fill(leaf);
    expect(await reasonOf(verifier().verify(many, AS_ALICE))).toBe("too-large");
    expect(await reasonOf(verifier().verify([], AS_ALICE))).toBe("too-large");
    expect(await reasonOf(verifier().verify([leaf, new Uint8Array(20_000)], AS_ALICE))).toBe("too-large");
    const long = await makeLeaf(root, { uris: [ALICE, `sip:${"a".repeat(17_000)}@example.org`] });
    expect(await reasonOf(verifier().verify([long], AS_ALICE))).toBe("too-large");
  });

  it("truncated at every offset, with octets behind it, or of garbage", async () => {
    const checking = verifier({ allowSelfSigned: true });
    for (let length = 0; length < leaf.length; length++) {
      expect(await reasonOf(checking.verify([leaf.subarray(0, length)], AS_ALICE)), `${length}`).toBe("malformed");
    }
    expect(await reasonOf(verifier().verify([concatBytes(leaf, Uint8Array.of(0)), intermediate.certificate], AS_ALICE))).toBe(
      "malformed",
    );
    // Among the issuers just as well.
    expect(await reasonOf(verifier().verify([leaf, intermediate.certificate.subarray(1)], AS_ALICE))).toBe("malformed");
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 80 }), async (octets) => {
        const sequence = concatBytes(Uint8Array.of(0x30, octets.length), octets);
        for (const input of [octets, sequence]) expect(await reasonOf(verifier().verify([input], AS_ALICE))).toBe("malformed");
      }),
    );
    const nested = concatBytes(...new Array<Uint8Array>(4000).fill(Uint8Array.of(0x30, 0x80)));
    expect(await reasonOf(verifier().verify([nested], AS_ALICE))).toBe("malformed");
  });

  it("before it is read, where nobody vouches for it: what a stranger sends costs signatures and no more", async () => {
    // The subjectAltName holds no names, which is seen by who looks.
    const hollow = (der: Uint8Array): Uint8Array => parseHex(formatHex(der).replace("0603551d11", "0603551d0f"));
    const stranger = await makeAuthority({ commonName: "stranger" });
    expect(() => readCertificate(hollow(leaf))).toThrow(expect.objectContaining({ reason: "malformed" }));
    expect(await reasonOf(verifier().verify([hollow(await makeLeaf(stranger))], AS_ALICE))).toBe("untrusted");
    expect(await reasonOf(verifier({ allowSelfSigned: true }).verify([hollow(await makeLeaf(undefined))], AS_ALICE))).toBe(
      "signature",
    );
    expect(await reasonOf(verifier().verify([leaf, intermediate.certificate, hollow(leaf)], AS_ALICE))).toBe("accepted");
  });

  it("with more names than are read", async () => {
    const crowded = (count: number) => makeLeaf(root, { dnsNames: Array.from({ length: count }, (_, i) => `a${i}`) });
    expect(await reasonOf(verifier().verify([await crowded(500)], AS_ALICE))).toBe("accepted");
    expect(await reasonOf(verifier().verify([await crowded(1100)], AS_ALICE))).toBe("malformed");
  });

  it("with any octet of it changed", async () => {
    const checking = verifier();
    const signed = readCertificate(leaf).signed.octets.length;
    for (let at = 0; at < leaf.length; at++) {
      // Every bit of what nobody signed, where only DER must come through; of the signature itself and of what is signed a bit here and there.
      const isAround = at < 4 || (at >= 4 + signed && at < 4 + signed + 20);
      for (const bit of isAround ? [0, 1, 2, 3, 4, 5, 6, 7] : at % 3 === 0 ? [at % 8] : []) {
        const changed = leaf.map((octet, index) => (index === at ? octet ^ (1 << bit) : octet));
        const reason = await reasonOf(checking.verify([changed, intermediate.certificate], AS_ALICE));
        expect(["malformed", "signature", "untrusted"], `${at}`).toContain(reason);
      }
    }
  });
});

let sharedRsa: Promise<PrivateKey> | undefined;
function rsaKey(): Promise<PrivateKey> {
  sharedRsa ??= makeKey("rsa");
  return sharedRsa;
}

describe("constraints of an issuer on names", () => {
  it("hold for every name of everything below, not for one of them", async () => {
    const constrained = await makeAuthority({ authority: { permitted: { uris: ["example.org"], dnsNames: ["example.org"] } } });
    const check = async (uris: readonly string[], dnsNames: readonly string[]): Promise<string> =>
      reasonOf(verifier({ roots: [constrained.certificate] }).verify([await makeLeaf(constrained, { uris, dnsNames })], SIGNATURE));
    expect(await check([ALICE], ["host.example.org"])).toBe("accepted");
    expect(await check([], ["host.example.org", "victim.example.net"])).toBe("name-constraints");
    expect(await check([ALICE, "sip:alice@victim.example.net"], [])).toBe("name-constraints");
    expect(await check([ALICE], ["victim.example.net"])).toBe("name-constraints");
  });

  it("are never widened by an issuer below", async () => {
    const upper = await makeAuthority({ authority: { permitted: { dnsNames: ["a.example.org"] } } });
    const lower = await makeAuthority({ authority: { permitted: { dnsNames: ["example.net"] } } }, upper);
    const check = async (name: string): Promise<string> =>
      reasonOf(
        verifier({ roots: [upper.certificate] }).verify(
          [await makeLeaf(lower, { uris: [], dnsNames: [name] }), lower.certificate],
          SIGNATURE,
        ),
      );
    expect(await check("example.net")).toBe("name-constraints");
    expect(await check("a.example.org")).toBe("name-constraints");
  });

  it("hold for issuers below, but not for those of the same name", async () => {
    const constrained = await makeAuthority({ authority: { excluded: { dnsNames: ["bad.example.org"] } } });
    const roots = [constrained.certificate];
    const named = await makeAuthority({ dnsNames: ["bad.example.org"] }, constrained);
    expect(await reasonOf(verifier({ roots }).verify([await makeLeaf(named), named.certificate], AS_ALICE))).toBe(
      "name-constraints",
    );
    const renewed = await makeAuthority({ commonName: "root", dnsNames: ["bad.example.org"] }, constrained);
    expect(await reasonOf(verifier({ roots }).verify([await makeLeaf(renewed), renewed.certificate], AS_ALICE))).toBe("accepted");
    const last = await makeLeaf(renewed, { commonName: "root", dnsNames: ["bad.example.org"] });
    expect(await reasonOf(verifier({ roots }).verify([last, renewed.certificate], AS_ALICE))).toBe("name-constraints");
  });

  it("with a mask that has holes are not guessed at", async () => {
    const constrained = await makeAuthority({ authority: { permitted: { addresses: ["10.0.0.0/8"] } } });
    const holes = parseHex(formatHex(constrained.certificate).replace("0a000000ff000000", "0a000000ff00ff00"));
    expect(() => createCertificateVerifier({ roots: [constrained.certificate] })).not.toThrow();
    expect(() => createCertificateVerifier({ roots: [holes] })).toThrow(
      expect.objectContaining({ code: "x509.certificate", reason: "malformed" }),
    );
  });
});

describe("paths", () => {
  it("are found among issuers that certify each other, which do not lead round and round", async () => {
    const [keyA, keyB] = [await makeKey(), await makeKey()];
    const a = await makeAuthority({ commonName: "a" }, undefined, keyA);
    const b = await makeAuthority({ commonName: "b" }, undefined, keyB);
    const aByB = await makeAuthority({ commonName: "a" }, b, keyA);
    const bByA = await makeAuthority({ commonName: "b" }, a, keyB);
    const under = await makeLeaf(a);
    expect(await reasonOf(verifier().verify([under, aByB.certificate, bByA.certificate], AS_ALICE))).toBe("untrusted");
    const rooted = await makeAuthority({ commonName: "b" }, root, keyB);
    expect(await reasonOf(verifier().verify([under, aByB.certificate, bByA.certificate, rooted.certificate], AS_ALICE))).toBe(
      "accepted",
    );
  });

  it("are looked for beyond one that is expired", async () => {
    const key = await makeKey();
    const expired = await makeAuthority({ notAfter: NOW - 1000 }, root, key);
    const fresh = await makeAuthority({}, root, key);
    const under = await makeLeaf(fresh);
    expect(await reasonOf(verifier().verify([under, expired.certificate], AS_ALICE))).toBe("expired");
    const verified = await verifier().verify([under, expired.certificate, fresh.certificate], AS_ALICE);
    expect(verified.chain).toEqual([under, fresh.certificate]);
  });

  it("cost a bounded number of signatures, under no key that no anchor vouches for, whatever the chain", async () => {
    // Seven authorities of one name that differ in nothing but the key: each may have issued each.
    const keys = await Promise.all(Array.from({ length: 7 }, () => makeKey("ed25519")));
    const issuers = await Promise.all(
      keys.map((key) => makeAuthority({ commonName: "same" }, { certificate: root.certificate, signer: key }, key)),
    );
    const used: string[] = [];
    const counting = {
      ...nodeCrypto,
      verify: (...parameters: Parameters<typeof nodeCrypto.verify>) => {
        used.push(formatHex(parameters[0].spki));
        return nodeCrypto.verify(...parameters);
      },
    };
    const judge = (chain: readonly Uint8Array[]) =>
      reasonOf(createCertificateVerifier({ roots: [root.certificate], crypto: counting }).verify(chain, AS_ALICE));
    const same = await Promise.all(
      issuers.map((issuer, at) =>
        makeAuthority({ commonName: "same" }, { ...issuer, signer: keys[(at + 1) % 7] as PrivateKey }, keys[at]),
      ),
    );
    const strip = (der: Uint8Array): Uint8Array =>
      parseHex(formatHex(der).replaceAll("0603551d23", "0603551d7f").replaceAll("0603551d0e", "0603551d7e"));
    const chain = [await makeLeaf(issuers[0]), ...same.map(({ certificate }) => certificate)].map(strip);
    expect([await judge(chain), used]).toEqual(["untrusted", []]);
    // They say that the anchor issued them.
    expect(await judge([await makeLeaf(issuers[0]), ...issuers.map(({ certificate }) => certificate)].map(strip))).toBe(
      "signature",
    );
    expect(used.splice(0)).toEqual(Array(7).fill(formatHex(root.signer.publicKey.spki)));
    // It did, and none of them issued the leaf.
    const good = await Promise.all(keys.map((key) => makeAuthority({ commonName: "same" }, root, key)));
    const stranger = { ...(good[0] as Issuer), signer: await makeKey("ed25519") };
    const forged = [await makeLeaf(stranger), ...good.map(({ certificate }) => certificate)];
    expect(await judge(forged.map((der, at) => (at === 0 ? strip(der) : der)))).toBe("signature");
    expect(used.splice(0)).toHaveLength(14);
    // And each of them issued each: more than is tried.
    const crossed = await Promise.all(
      good.map((issuer, at) => makeAuthority({ commonName: "same" }, issuer, keys[(at + 1) % 7] as PrivateKey)),
    );
    const both = [await makeLeaf(stranger), ...good.slice(0, 3), ...crossed.slice(0, 4)].map((one) =>
      one instanceof Uint8Array ? one : one.certificate,
    );
    expect(["signature", "too-large"]).toContain(await judge(both.map((der, at) => (at === 0 ? strip(der) : der))));
    expect(used.length).toBeLessThanOrEqual(24);
  });
});

/** The list without its second time. */
function withoutNextUpdate(der: Uint8Array): Uint8Array {
  const list = AsnConvert.parse(der, asn1.CertificateList);
  delete list.tbsCertList.nextUpdate;
  return new Uint8Array(AsnConvert.serialize(list));
}

async function resigned(der: Uint8Array, signer: Issuer["signer"]): Promise<Uint8Array> {
  const list = AsnConvert.parse(der, asn1.CertificateList);
  const octets = new Uint8Array(AsnConvert.serialize(list.tbsCertList));
  list.signature = encodeEcdsa(await signer.sign("ecdsa-p256-sha256", octets)).slice().buffer as ArrayBuffer;
  return new Uint8Array(AsnConvert.serialize(list));
}

describe("revocation", () => {
  let list: Uint8Array;
  const listOf = (
    issuer: Issuer,
    revoked: readonly Uint8Array[],
    thisUpdate = NOW - 1000,
    nextUpdate = NOW + 1000,
  ): Promise<Uint8Array> =>
    issueRevocationList({ issuer, thisUpdate, nextUpdate, revoked: revoked.map((der) => readCertificate(der).serial) });

  beforeAll(async () => {
    list = await listOf(intermediate, [leaf]);
  });

  const check = async (
    options: Partial<CertificateVerifierOptions>,
    chain = [leaf, intermediate.certificate],
    now = NOW,
  ): Promise<string> => reasonOf(verifier(options).verify(chain, { ...AS_ALICE, now }));

  it("by a list of the issuer", async () => {
    expect(await check({ crls: [list] })).toBe("revoked");
    expect(await check({ crls: [await listOf(intermediate, [])] })).toBe("accepted");
    expect(await check({ crls: [await listOf(intermediate, [intermediate.certificate])] })).toBe("accepted");
    expect(await check({ crls: [await listOf(root, [leaf])] })).toBe("accepted");
    expect(await check({ crls: [await listOf(root, [intermediate.certificate])] })).toBe("revoked");
    expect(await check({ crls: [await listOf(intermediate, []), list] })).toBe("revoked");
  });

  it("by a list that is not usable: nobody knows", async () => {
    expect(await check({ crls: [list] }, undefined, NOW - 2000)).toBe("revocation-unknown");
    expect(await check({ crls: [await listOf(intermediate, [], NOW - 2 * DAY, NOW - 1000)] })).toBe("revocation-unknown");
    const forged = await listOf({ certificate: intermediate.certificate, signer: await makeKey() }, []);
    expect(await check({ crls: [forged] })).toBe("revocation-unknown");
    const changed = list.map((octet, at) => (at === list.length - 1 ? octet ^ 1 : octet));
    expect(await check({ crls: [changed] })).toBe("revocation-unknown");
    // authorityKeyIdentifier made a critical issuingDistributionPoint: a part of the issuer's certificates only.
    const partial = parseHex(formatHex(await listOf(intermediate, [])).replace("0603551d23", "0603551d1c"));
    expect(await check({ crls: [partial] })).toBe("revocation-unknown");
    // Nor where a sloppy issuer did not mark it critical; nor a list of changes.
    for (const id of ["0603551d1c", "0603551d1b"])
      expect(readRevocationList(parseHex(formatHex(list).replace("0603551d23", id))).isComplete).toBe(false);
    // A list that never ends would be the last word for ever (RFC 5280 §5.1.2.5).
    const endless = withoutNextUpdate(await listOf(intermediate, []));
    const signed = await resigned(endless, intermediate.signer);
    expect(readRevocationList(signed).nextUpdate).toBeUndefined();
    expect(await check({ crls: [signed] })).toBe("revocation-unknown");
  });

  it("by a list of octets that are none", () => {
    for (let length = 0; length < list.length; length += 3)
      expect(() => verifier({ crls: [list.subarray(0, length)] })).toThrow(expect.objectContaining({ code: "x509.certificate" }));
    expect(() => verifier({ crls: [leaf] })).toThrow(expect.objectContaining({ code: "x509.certificate" }));
  });

  it("by whoever is asked, for each certificate with its issuer", async () => {
    const asked: [Uint8Array, Uint8Array, number][] = [];
    const answering =
      (...answers: readonly ("good" | "revoked" | "unknown")[]) =>
      async (certificate: Uint8Array, issuer: Uint8Array, now: number) => {
        asked.push([certificate, issuer, now]);
        return answers[asked.length - 1] ?? "unknown";
      };
    expect(await check({ revocation: answering("good", "good") })).toBe("accepted");
    expect(asked).toEqual([
      [leaf, intermediate.certificate, NOW],
      [intermediate.certificate, root.certificate, NOW],
    ]);
    for (const { answers, required, reason } of [
      { answers: ["good", "revoked"], required: false, reason: "revoked" },
      { answers: ["revoked"], required: false, reason: "revoked" },
      { answers: ["unknown", "good"], required: false, reason: "accepted" },
      { answers: ["unknown", "good"], required: true, reason: "revocation-unknown" },
      { answers: ["good", "good"], required: true, reason: "accepted" },
    ] as const) {
      asked.length = 0;
      expect(await check({ revocation: answering(...answers), requireRevocation: required })).toBe(reason);
    }
    const failing = async (): Promise<never> => {
      throw new Error("no network");
    };
    expect(await check({ revocation: failing })).toBe("accepted");
    expect(await check({ revocation: failing, requireRevocation: true })).toBe("revocation-unknown");
    expect(await check({ requireRevocation: true })).toBe("revocation-unknown");
  });

  it("is asked for every time, also where a path is remembered", async () => {
    const answers: ("good" | "revoked")[] = ["good", "good", "revoked"];
    const asking = verifier({ revocation: async () => answers.shift() ?? "revoked" });
    expect(await reasonOf(asking.verify([leaf, intermediate.certificate], AS_ALICE))).toBe("accepted");
    expect(await reasonOf(asking.verify([leaf, intermediate.certificate], AS_ALICE))).toBe("revoked");
  });
});

describe("certificates by URL", () => {
  const chain = () => [{ url: "https://certs.example.org/alice.cer" }, intermediate.certificate];

  it("are fetched by the hook alone", async () => {
    const urls: string[] = [];
    const fetching = verifier({
      fetchCertificate: async (url) => {
        urls.push(url);
        return leaf;
      },
    });
    const verified = await fetching.verify(chain(), AS_ALICE);
    expect(verified.chain).toEqual([leaf, intermediate.certificate]);
    expect(urls).toEqual(["https://certs.example.org/alice.cer"]);
    expect(await reasonOf(verifier().verify(chain(), AS_ALICE))).toBe("fetch");
  });

  it.each(["file:///etc/passwd", "ftp://example.org/x", "https://example.org/a b", "", `http://example.org/${"x".repeat(3000)}`])(
    "are not fetched from %s",
    async (url) => {
      let fetched = 0;
      const fetching = verifier({
        fetchCertificate: async () => {
          fetched++;
          return leaf;
        },
      });
      expect(await reasonOf(fetching.verify([{ url }, intermediate.certificate], AS_ALICE))).toBe("fetch");
      expect(fetched).toBe(0);
    },
  );

  it("that cannot be fetched, or are too long, are refused", async () => {
    const failing = verifier({
      fetchCertificate: async () => {
        throw new Error("404");
      },
    });
    expect(await reasonOf(failing.verify(chain(), AS_ALICE))).toBe("fetch");
    expect(await reasonOf(verifier({ fetchCertificate: async () => new Uint8Array(1e6) }).verify(chain(), AS_ALICE))).toBe(
      "too-large",
    );
  });
});

describe("identities", () => {
  it("are names that are read as what they are: an address that looks like a URI is nobody's URI", async () => {
    const emails = ["alice@example.org", "sip:bob@example.org"];
    const dnsNames = ["alice.example.org", "*.example.org", "sip:example.org"];
    const tricky = await makeLeaf(root, { uris: [ALICE, "rtsp://example.org/"], emails, dnsNames, addresses: ["192.0.2.1"] });
    const { identities, names } = readCertificate(tricky);
    expect(names).toHaveLength(8);
    expect(identities).toEqual([ALICE, "rtsp://example.org/", "alice.example.org", "alice@example.org", "192.0.2.1"]);
    const { identities: verified } = await verifier().verify([tricky], SIGNATURE);
    for (const identity of verified)
      expect(await reasonOf(verifier().verify([tricky], { ...SIGNATURE, identity }))).toBe("accepted");
    for (const identity of ["sip:bob@example.org", "sip:example.org"])
      expect(await reasonOf(verifier().verify([tricky], { ...SIGNATURE, identity }))).toBe("identity");
  });
});

describe("identities in terminals and logs", () => {
  it("hold nothing that is not printable: no name has it", async () => {
    const certificate = await makeLeaf(root, { uris: [ALICE, "urn:example:abc"] });
    const escaping = formatHex(certificate).replace(
      formatHex(utf8("urn:example:abc")),
      formatHex(utf8("urn:example:\u001b[2J").slice(0, 15)),
    );
    const { identities, names } = readCertificate(parseHex(escaping));
    expect(names.map(({ value }) => value)).toContain("urn:example:\u001b[2");
    expect(identities).toEqual([ALICE]);
  });
});

describe("issuing", () => {
  it("refuses a self-signed certificate with another key, and names that are none", async () => {
    const [own, other] = [await makeKey(), await makeKey()];
    const content = { commonName: "x", publicKey: own.publicKey, issuer: own, notBefore: NOW, notAfter: NOW + DAY };
    await expect(issueCertificate({ ...content, issuer: other })).rejects.toThrow(expect.objectContaining({ code: "crypto.key" }));
    for (const names of [
      { uris: [""] },
      { dnsNames: ["exa mple.org"] },
      { emails: ["ä@example.org"] },
      { addresses: ["example.org"] },
    ])
      await expect(issueCertificate({ ...content, ...names })).rejects.toThrow(expect.objectContaining({ code: "crypto.length" }));
  });

  it("gives every certificate a serial number of its own", async () => {
    const serials = [leaf, intermediate.certificate, root.certificate].map((der) => readCertificate(der).serial);
    expect(new Set(serials).size).toBe(3);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9a-f]{31}$/);
  });

  it("makes names harmless for logs", async () => {
    const odd = await makeLeaf(root, { commonName: "a\n\u001b[31mb" });
    expect(readCertificate(odd).subject).toBe("CN=a??[31mb");
  });

  it("keeps the detail of a refusal out of its message", async () => {
    const usage: CertificateUsage = "signature";
    const error: CertificateError = await verifier()
      .verify([leaf], { now: NOW, usage })
      .then(
        () => expect.unreachable(),
        (refusal: CertificateError) => refusal,
      );
    expect(error.message).not.toContain("intermediate");
    expect(error.detail).toContain("intermediate");
  });
});
