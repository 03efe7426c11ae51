import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import type { AgreementGroup } from "../../src/crypto/index.js";
import { backends } from "./crypto-backends.js";
import { type VectorFile, type VectorKey, vectorFiles, vectorMessages } from "./mikey-vectors.js";

const keyOf = (file: VectorFile, name: string): VectorKey => {
  const key = file.credentials?.[name];
  if (key === undefined) throw new Error(`${file.name} has no key of ${name}`);
  return key;
};

const signed = vectorMessages.flatMap(({ title, file, message }) =>
  message.signature === undefined ? [] : [[title, file, message.signature] as const],
);
const sealed = vectorMessages.flatMap(({ title, file, message }) =>
  message.envelope === undefined ? [] : [[title, file, message.envelope] as const],
);
const agreements = vectorFiles.flatMap(({ vectors }) =>
  vectors.flatMap(({ name, exchanges }) =>
    exchanges.flatMap(({ dh }, index) => (dh === undefined ? [] : [[`${name} ${index}`, dh] as const])),
  ),
);
const GROUPS: Readonly<Record<number, AgreementGroup>> = { 0: "modp1536", 1: "modp768", 2: "modp1024", 241: "x25519", 242: "p256" };

describe.each(backends)("public-key primitives, %s", (_name, crypto) => {
  it.each(signed)("%s: signature", async (_title, file, { scheme, signer, input, signature }) => {
    const { spki, pkcs8 } = keyOf(file, signer);
    const key = crypto.importPublicKey(parseHex(spki));
    const message = parseHex(input);
    expect(await crypto.verify(key, scheme, message, parseHex(signature))).toBe(true);
    message[9] = (message[9] as number) ^ 1;
    expect(await crypto.verify(key, scheme, message, parseHex(signature))).toBe(false);
    const own = await crypto.importPrivateKey(parseHex(pkcs8)).sign(scheme, parseHex(input));
    // The salt of RSASSA-PSS and, with OpenSSL, the nonce of ECDSA are random.
    if (scheme.startsWith("rsa-pkcs1") || scheme === "ed25519") expect(formatHex(own)).toBe(signature);
    else expect(await crypto.verify(key, scheme, parseHex(input), own)).toBe(true);
  });

  it.each(sealed)("%s: envelope key", async (_title, file, { scheme, recipient, envelopeKey, padding, seed, data }) => {
    const { spki, pkcs8 } = keyOf(file, recipient);
    const plaintext = parseHex(envelopeKey);
    const sealedKey = await crypto.encrypt(
      crypto.importPublicKey(parseHex(spki)),
      scheme,
      plaintext,
      parseHex(padding ?? seed ?? ""),
    );
    expect(formatHex(sealedKey)).toBe(data);
    const opened = await crypto.importPrivateKey(parseHex(pkcs8)).decrypt(scheme, parseHex(data), plaintext.length);
    expect(formatHex(opened)).toBe(envelopeKey);
  });

  it.each(agreements)(
    "%s: agreement",
    async (_title, { group, initiatorPrivate, initiatorValue, responderPrivate, responderValue, shared }) => {
      const name = GROUPS[group] as AgreementGroup;
      const begun = crypto.agreement(name, parseHex(initiatorPrivate));
      // OAKLEY groups 1 and 2 are too short to agree in.
      if (group === 1 || group === 2) return expect(begun).rejects.toMatchObject({ code: "crypto.group" });
      const [own, peer] = [await begun, await crypto.agreement(name, parseHex(responderPrivate))];
      expect(formatHex(own.publicValue)).toBe(initiatorValue);
      expect(formatHex(peer.publicValue)).toBe(responderValue);
      expect(formatHex((await own.agree(parseHex(responderValue))) as Uint8Array)).toBe(shared);
      expect(formatHex((await peer.agree(parseHex(initiatorValue))) as Uint8Array)).toBe(shared);
    },
  );
});
