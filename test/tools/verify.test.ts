import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { type CertificateReference, encryptionSchemesOf, signatureSchemesOf } from "../../src/crypto/index.js";
import { createCertificateVerifier } from "../../src/crypto/x509/index.js";
import { decodeMessage, type KeyPairCredential } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type Verification, type VerifyOptions, verifyMessages } from "../../src/tools/index.js";
import { PSK } from "../mikey/exchange-fixture.js";
import { type Vector, type VectorFile, type VectorMessage, vectorFiles } from "../mikey/mikey-vectors.js";
import { caseNamed, credentialOf, keyPair, MODE_CASES, modePair, modeRequest } from "../mikey/mode-fixture.js";

const NOW = Date.UTC(2026, 10, 28);

/** All that a party of a vector, or an auditor who has all keys, knows. */
function optionsFor(file: VectorFile, vector: Vector): VerifyOptions {
  const entries = Object.values(file.credentials ?? {});
  const roots = entries.filter(({ certificate }) => certificate !== undefined).map(({ certificate }) => parseHex(certificate));
  const keyPairs: KeyPairCredential[] = entries.map(({ pkcs8 }) => ({
    privateKey: nodeCrypto.importPrivateKey(parseHex(pkcs8)),
    chain: [] as CertificateReference[],
  }));
  return {
    psks: vector.psk === undefined ? [] : [parseHex(vector.psk)],
    keyPairs,
    initiatorId: { idType: vector.initiator.type, data: parseHex(vector.initiator.data) },
    ...(vector.responder === null ? {} : { responderId: { idType: vector.responder.type, data: parseHex(vector.responder.data) } }),
    now: NOW,
    crypto: nodeCrypto,
    policy: {
      signatureSchemes: [...signatureSchemesOf("rsa"), ...signatureSchemesOf("ec-p256"), ...signatureSchemesOf("ed25519")],
      encryptionSchemes: [...encryptionSchemesOf("rsa")],
      certificates: createCertificateVerifier({
        roots,
        crypto: nodeCrypto,
        fetchCertificate: async () => parseHex(file.credentials?.["alice"]?.certificate ?? ""),
      }),
      findPublicKey: (identity) => {
        const name = /sip:(alice|bob)@/.exec(identity === undefined ? "" : new TextDecoder().decode(identity.data))?.[1];
        const entry = vector.credentials?.filter((each) => name !== undefined && each.startsWith(name)).at(0);
        const spki = entry === undefined ? undefined : file.credentials?.[entry]?.spki;
        return spki === undefined ? undefined : nodeCrypto.importPublicKey(parseHex(spki));
      },
    },
  };
}

/** The messages of a vector in their order. */
function messagesOf(vector: Vector): VectorMessage[] {
  return vector.exchanges.flatMap(({ iMessage, rMessage }) => [iMessage, ...(rMessage === undefined ? [] : [rMessage])]);
}

/** The answer to an update whose envelope key no KEMAC confirms, which this package does not speak: its V cannot be checked. */
function isUncheckable(messages: readonly VectorMessage[], index: number): boolean {
  const kinds = (message: VectorMessage | undefined) =>
    message === undefined ? [] : decodeMessage(parseHex(message.octets)).payloads.map(({ kind }) => kind);
  const request = kinds(messages[index - 1]);
  return kinds(messages[index]).includes("V") && request.includes("PKE") && !request.includes("KEMAC");
}

const vectors = vectorFiles.flatMap((file) => file.vectors.map((vector) => [vector.name, file, vector] as const));

describe("the published vectors", () => {
  it.each(vectors)("%s: every message is authentic, its keys are the vector's", async (_name, file, vector) => {
    const messages = messagesOf(vector);
    const verified = await verifyMessages(
      messages.map(({ octets }) => parseHex(octets)),
      optionsFor(file, vector),
    );
    const checkable = verified.filter((_one, index) => !isUncheckable(messages, index));
    expect(checkable.map(({ verdict, reason }) => `${verdict}: ${reason}`)).toEqual(
      checkable.map(() => expect.stringMatching(vector.name === "psk-null-null" ? /^unprotected: / : /^authentic: /)),
    );
    for (const exchange of vector.exchanges) {
      const carrier = vector.mode === "RSA-R" && exchange.rMessage !== undefined ? exchange.rMessage : exchange.iMessage;
      const found = verified[messages.indexOf(carrier)]?.keys ?? [];
      const agreed = vector.mode === "DH" || vector.mode === "DHHMAC";
      const carried = carrier.kemac === undefined || carrier.kemac.keyData === "" ? [] : exchange.keys;
      if (!agreed && found.length > 0) expect(found.map(({ key }) => formatHex(key))).toEqual(carried.map(({ key }) => key));
      if (agreed) expect(found).toEqual([]);
    }
  });
});

describe("messages that carry no certificate", () => {
  const file = vectorFiles.find(({ name }) => name === "mikey-dh.json") as VectorFile;
  const vector = file.vectors.find(({ name }) => name === "dh-identities-only") as Vector;
  const keyOf = (name: string): PeerKey => {
    const publicKey = nodeCrypto.importPublicKey(parseHex(file.credentials?.[name]?.spki ?? ""));
    return { publicKey, identities: [] };
  };
  const [ALICE, BOB] = [keyOf("alice"), keyOf("bob")];
  const CAROL: PeerKey = { publicKey: keyPair(nodeCrypto, "alice-p256").privateKey.publicKey, identities: [] };
  type PeerKey = NonNullable<VerifyOptions["peerKeys"]>[number];
  const check = (octets: readonly Uint8Array[], peerKeys: readonly PeerKey[]) =>
    verifyMessages(octets, {
      now: NOW,
      crypto: nodeCrypto,
      peerKeys,
      policy: { signatureSchemes: [...signatureSchemesOf("rsa")] },
    });
  const published = messagesOf(vector).map(({ octets }) => parseHex(octets));
  /** One that names nobody, either. */
  const unnamed = async (): Promise<Uint8Array> => {
    const row = caseNamed("DH");
    const { privateKey } = keyPair(nodeCrypto, "alice");
    const credential = { mode: "DH", keyPair: { privateKey, chain: [] } } as const;
    const request = modeRequest(nodeCrypto, row, { credential, omitIdentities: true });
    return (await modePair(row, nodeCrypto).initiator.begin(request)).octets;
  };

  it("are checked with the keys that are given, whichever it is, and never by a changed octet", async () => {
    const all = await check(published, [CAROL, ALICE, BOB]);
    expect(all.map(({ verdict, signer }) => [verdict, signer])).toEqual(published.map(() => ["authentic", []]));
    expect((await check(published, [ALICE])).map(({ verdict }) => verdict).slice(0, 2)).toEqual(["authentic", "false"]);
    expect(await check(published.slice(0, 1), [BOB, CAROL])).toMatchObject([
      { verdict: "false", reason: "the signature is wrong" },
    ]);
    const changed = (published[0] as Uint8Array).slice();
    changed[20] = (changed[20] as number) ^ 1;
    expect(await check([changed], [ALICE, BOB])).toMatchObject([{ verdict: "false" }]);
    expect(await check(published.slice(0, 1), [])).toMatchObject([
      { verdict: "false", reason: expect.stringContaining("not good") },
    ]);
  });

  it("that name somebody are not checked with the key of a certificate for another name", async () => {
    const named = { ...ALICE, identities: ["sip:boss@example.org"] };
    expect(await check(published.slice(0, 1), [named])).toMatchObject([{ verdict: "false" }]);
    expect(await check([await unnamed()], [BOB, named])).toMatchObject([{ verdict: "authentic", signer: named.identities }]);
  });
});

describe.each(MODE_CASES.map((row) => [row.title, row] as const))("%s", (_title, row) => {
  async function captured(): Promise<{ octets: Uint8Array[]; options: VerifyOptions }> {
    const { initiator, responder } = modePair(row, nodeCrypto);
    const begun = await initiator.begin(modeRequest(nodeCrypto, row));
    const first = await responder.receive(begun.octets);
    if (first.kind === "repeated") throw new Error("repeated");
    const csb = await begun.complete(first.response as Uint8Array);
    const keys =
      row.mode === "RSA-R" && csb.envelope?.cached !== true ? {} : { keys: [{ kind: "TGK", spi: parseHex("00000009") }] as const };
    const update = await initiator.update(csb, keys);
    const second = await responder.receive(update.octets, { csb: first.csb });
    if (second.kind === "repeated") throw new Error("repeated");
    const pairs = row.keys === undefined ? [] : [0, 1].map((side) => credentialOf(nodeCrypto, row, side as 0 | 1));
    return {
      octets: [begun.octets, first.response as Uint8Array, update.octets, second.response as Uint8Array],
      options: {
        psks: row.keys === undefined ? [PSK] : [],
        keyPairs: pairs.flatMap((pair) => ("keyPair" in pair ? [pair.keyPair] : [])),
        now: NOW,
        crypto: nodeCrypto,
        policy: {
          signatureSchemes: [...signatureSchemesOf("rsa"), ...signatureSchemesOf("ec-p256"), ...signatureSchemesOf("ed25519")],
          encryptionSchemes: [...encryptionSchemesOf("rsa")],
          ...(modePolicy() === undefined ? {} : { certificates: modePolicy() as never }),
        },
      },
    };
  }
  const modePolicy = () => {
    const file = vectorFiles.find(({ credentials }) => credentials?.["root"] !== undefined && credentials["alice"] !== undefined);
    const root = file?.credentials?.["root"]?.certificate;
    return root === undefined ? undefined : createCertificateVerifier({ roots: [parseHex(root)], crypto: nodeCrypto });
  };
  const verdicts = (all: readonly Verification[]): string[] => all.map(({ verdict }) => verdict);

  it("an exchange and its update are authentic; a changed octet is not, nor is anything without the credential", async () => {
    const { octets, options } = await captured();
    expect(verdicts(await verifyMessages(octets, options))).toEqual(octets.map(() => "authentic"));
    for (const [index, message] of octets.entries()) {
      // The last octet is of the MAC or signature; T and what follows are covered by it.
      for (const at of [message.length - 1, 20]) {
        const changed = message.slice();
        changed[at] = (changed[at] as number) ^ 1;
        const all = await verifyMessages(
          octets.map((each, place) => (place === index ? changed : each)),
          options,
        );
        expect(all[index]?.verdict, `message ${index}, octet ${at}`).not.toBe("authentic");
        expect(all[index]?.keys).toEqual([]);
      }
    }
    const nobody = await verifyMessages(octets, { now: NOW, crypto: nodeCrypto });
    expect(nobody.every(({ verdict, keys }) => verdict !== "authentic" && keys.length === 0)).toBe(true);
    const wrong = await verifyMessages(octets, { ...options, psks: [PSK.map((octet) => octet ^ 1)], policy: {} });
    expect(wrong[0]).toMatchObject({ verdict: "false", keys: [] });
    const alone = await verifyMessages(octets.slice(1, 2), options);
    expect(alone).toMatchObject([{ verdict: "unknown" }]);
  });
});
