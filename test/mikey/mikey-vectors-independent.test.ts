import { execFile, spawnSync } from "node:child_process";
import {
  createDiffieHellman,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  getDiffieHellman,
  type KeyObject,
} from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { concatBytes, parseHex } from "../../src/bytes/index.js";
import { type VectorAgreement, type VectorEnvelope, type VectorFile, vectorFiles, vectorMessages } from "./mikey-vectors.js";

const run = promisify(execFile);
const installed = (program: string, argument: string): boolean => spawnSync(program, [argument]).status === 0;

/** The scripts take seconds of one core, and the machine may be busy. */
const LONG = 120_000;
const script = (name: string): string => new URL(`../vectors/mikey/${name}`, import.meta.url).pathname;

describe.skipIf(!installed("python3", "--version"))("the Python computation (python3 installed)", () => {
  it("gives the files as they are committed", async () => void (await run("python3", [script("generate.py"), "--check"])), LONG);

  it(
    "has primitives that know the published answers",
    async () => {
      const { stdout } = await run("python3", [script("selftest.py")]);
      expect(
        stdout
          .trim()
          .split("\n")
          .every((line) => line.startsWith("ok ")),
      ).toBe(true);
    },
    LONG,
  );
});

/** The DER of SubjectPublicKeyInfo as PEM: `openssl dgst` reads nothing else. */
const pem = (label: string, octets: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(octets).toString("base64").replaceAll(/.{64}/g, "$&\n")}\n-----END ${label}-----\n`;

/** r and s as OpenSSL has them: a SEQUENCE of two INTEGERs. */
function ecdsaDer(signature: Uint8Array): Uint8Array {
  const integer = (octets: Uint8Array): Uint8Array => {
    const first = octets.findIndex((octet) => octet !== 0);
    const digits = octets.subarray(first);
    const body = (digits[0] as number) >= 0x80 ? concatBytes(Uint8Array.of(0), digits) : digits;
    return concatBytes(Uint8Array.of(2, body.length), body);
  };
  const body = concatBytes(integer(signature.subarray(0, 32)), integer(signature.subarray(32)));
  return concatBytes(Uint8Array.of(0x30, body.length), body);
}

const keyOf = (file: VectorFile, name: string): NonNullable<VectorFile["credentials"]>[string] => {
  const key = file.credentials?.[name];
  if (key === undefined) throw new Error(`${file.name} has no key of ${name}`);
  return key;
};

describe.skipIf(!installed("openssl", "version"))("openssl (installed)", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "watchword-vectors-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, octets: Uint8Array | string): string => {
    const path = join(folder, name);
    writeFileSync(path, octets);
    return path;
  };
  const openssl = async (...parameters: string[]): Promise<string> => (await run("openssl", parameters)).stdout;
  const hex = async (...parameters: string[]): Promise<string> =>
    (await run("openssl", parameters, { encoding: "buffer" })).stdout.toString("hex");

  const signed = vectorMessages.flatMap(({ title, file: where, message }) =>
    message.signature === undefined ? [] : [[title, where, message.signature] as const],
  );

  it.each(signed)("%s: verifies the signature", async (title, where, { scheme, signer, input, signature }) => {
    const name = title.replaceAll(/\W+/g, "-");
    const key = file(`${name}.pem`, pem("PUBLIC KEY", parseHex(keyOf(where, signer).spki)));
    const ecdsa = scheme === "ecdsa-p256-sha256";
    const value = file(`${name}.signature`, ecdsa ? ecdsaDer(parseHex(signature)) : parseHex(signature));
    const hash = scheme.endsWith("sha1") ? "sha1" : "sha256";
    const pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sigopt", `rsa_mgf1_md:${hash}`];
    const verify = (message: string): Promise<string> =>
      scheme === "ed25519"
        ? openssl("pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", message, "-sigfile", value)
        : openssl("dgst", `-${hash}`, ...(scheme.startsWith("rsa-pss") ? pss : []), "-verify", key, "-signature", value, message);
    expect(await verify(file(`${name}.input`, parseHex(input)))).toMatch(/Verified OK|Verified Successfully/);
    const other = parseHex(input);
    other[20] = (other[20] as number) ^ 1;
    await expect(verify(file(`${name}.other`, other))).rejects.toThrow();
  });

  const sealed = vectorMessages.flatMap(({ title, file: where, message }) =>
    message.envelope === undefined ? [] : [[title, where, message.envelope] as const],
  );

  it.each(sealed)("%s: decrypts the envelope key", async (title, where, envelope) => {
    const name = title.replaceAll(/\W+/g, "-");
    const { scheme, recipient, envelopeKey, data } = envelope;
    const key = file(`${name}.pkcs8`, parseHex(keyOf(where, recipient).pkcs8));
    const hash = scheme.slice("rsa-oaep-".length);
    const mode =
      scheme === "rsa-pkcs1"
        ? ["-pkeyopt", "rsa_padding_mode:pkcs1"]
        : ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", `rsa_oaep_md:${hash}`, "-pkeyopt", `rsa_mgf1_md:${hash}`];
    const sealedFile = file(`${name}.pke`, parseHex(data));
    expect(await hex("pkeyutl", "-decrypt", "-inkey", key, "-keyform", "DER", "-in", sealedFile, ...mode)).toBe(envelopeKey);
    if (scheme === "rsa-pkcs1") {
      const block = await hex(
        "pkeyutl",
        "-decrypt",
        "-inkey",
        key,
        "-keyform",
        "DER",
        "-in",
        sealedFile,
        "-pkeyopt",
        "rsa_padding_mode:none",
      );
      expect(block).toBe(paddedBlock(envelope));
    }
  });

  /** 00 02 PS 00 M (RFC 8017 §7.2.1). */
  const paddedBlock = ({ padding, envelopeKey }: VectorEnvelope): string => `0002${padding}00${envelopeKey}`;

  const certified = vectorFiles.flatMap((where) =>
    Object.keys(where.credentials ?? {}).map((name) => [where.name, name, where] as const),
  );

  it.each(certified)("%s: verifies the certificate of %s", async (_title, name, where) => {
    const certificate = (holder: string): string =>
      file(`${where.name}-${holder}.cer`, pem("CERTIFICATE", parseHex(keyOf(where, holder).certificate)));
    const { issuer, spki, pkcs8 } = keyOf(where, name);
    const chain = issuer === "root" ? [] : ["-untrusted", certificate(issuer)];
    expect(await openssl("verify", "-x509_strict", "-CAfile", certificate("root"), ...chain, certificate(name))).toMatch(/: OK$/m);
    const text = await openssl("x509", "-in", certificate(name), "-noout", "-pubkey");
    expect(text).toBe(pem("PUBLIC KEY", parseHex(spki)).replace("\n\n", "\n"));
    const key = file(`${where.name}-${name}.pkcs8`, parseHex(pkcs8));
    expect(await openssl("pkey", "-inform", "DER", "-in", key, "-pubout")).toBe(text);
  });
});

/** PrivateKeyInfo up to the 32 octets of the key, and SubjectPublicKeyInfo up to the public value (RFC 8410 §7, RFC 5480, RFC 5915). */
const DER_PREFIX = {
  241: { secret: "302e020100300506032b656e04220420", value: "302a300506032b656e032100" },
  242: {
    secret: "3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420",
    value: "3059301306072a8648ce3d020106082a8648ce3d030107034200",
  },
} as const;

/** OpenSSL's library, by way of node:crypto. */
function agree(group: number, secret: string, peer: string): { readonly value: string; readonly shared: string } {
  if (group === 241 || group === 242) {
    const prefix = DER_PREFIX[group];
    const privateKey = createPrivateKey({ key: Buffer.from(prefix.secret + secret, "hex"), format: "der", type: "pkcs8" });
    const publicKey = (octets: string): KeyObject =>
      createPublicKey({ key: Buffer.from(prefix.value + octets, "hex"), format: "der", type: "spki" });
    const own = createPublicKey(privateKey).export({ format: "der", type: "spki" }).toString("hex");
    return {
      value: own.slice(prefix.value.length),
      shared: diffieHellman({ privateKey, publicKey: publicKey(peer) }).toString("hex"),
    };
  }
  const named = getDiffieHellman(["modp5", "modp1", "modp2"][group] as string);
  const own = createDiffieHellman(named.getPrime(), named.getGenerator());
  own.setPrivateKey(Buffer.from(secret, "hex"));
  const digits = 2 * own.getPrime().length;
  return {
    value: own.generateKeys("hex").padStart(digits, "0"),
    shared: own.computeSecret(Buffer.from(peer, "hex")).toString("hex").padStart(digits, "0"),
  };
}

describe("node:crypto", () => {
  const agreements = vectorFiles.flatMap(({ vectors }) =>
    vectors.flatMap(({ name, exchanges }) =>
      exchanges.flatMap(({ dh }, index) => (dh === undefined ? [] : [[`${name} ${index}`, dh] as const])),
    ),
  );

  it.each(agreements)("%s: agrees on the same secret, from both sides", (_title, dh: VectorAgreement) => {
    const { group, shared } = dh;
    expect(agree(group, dh.initiatorPrivate, dh.responderValue)).toEqual({ value: dh.initiatorValue, shared });
    expect(agree(group, dh.responderPrivate, dh.initiatorValue)).toEqual({ value: dh.responderValue, shared });
  });
});
