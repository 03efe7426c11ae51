import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { formatPem, parsePem } from "../../src/crypto/index.js";
import { issueRevocationList, readCertificate } from "../../src/crypto/x509/index.js";
import { nodeCrypto } from "../../src/node/index.js";
import { createProgram } from "./program.js";

const { folder, run, succeed } = createProgram("cert");

const text = (name: string): string => readFileSync(join(folder, name), "utf8");
const ISSUE = ["cert", "issue", "--ca", "ca.pem", "--ca-key", "ca.key"];
const ALICE = "sip:alice@example.org";

beforeAll(async () => {
  await Promise.all(["ca", "sub", "alice"].map((name) => succeed("keygen", "p256", "--out", `${name}.key`)));
  await succeed("cert", "ca", "--key", "ca.key", "--out", "ca.pem", "--name", "Example root");
  await succeed(
    "cert",
    "ca",
    "--key",
    "sub.key",
    "--out",
    "sub.pem",
    "--name",
    "Example sub",
    "--ca",
    "ca.pem",
    "--ca-key",
    "ca.key",
    "--days",
    "30",
  );
  await succeed(
    "cert",
    "issue",
    "--ca",
    "sub.pem",
    "--ca-key",
    "sub.key",
    "--key",
    "alice.key",
    "--uri",
    ALICE,
    "--out",
    "alice.pem",
  );
}, 60_000);

describe("keygen", () => {
  it.each([
    { kind: "rsa", args: ["--bits", "2304"], type: "rsa", says: /^k-rsa\.pem: RSA, 2304 bits, public key [0-9a-f]{64}\n$/ },
    { kind: "p256", args: [], type: "ec", says: /^k-p256\.pem: P-256, public key [0-9a-f]{64}\n$/ },
    { kind: "ed25519", args: [], type: "ed25519", says: /^k-ed25519\.pem: Ed25519, public key [0-9a-f]{64}\n$/ },
  ])(
    "$kind makes a private key that its owner alone can read, and the public key by itself",
    async ({ kind, args, type, says }) => {
      const file = `k-${kind}.pem`;
      const stdout = await succeed("keygen", kind, "--out", file, "--public", `k-${kind}.pub`, ...args);
      expect(stdout).toMatch(says);
      expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600);
      const key = createPrivateKey(text(file));
      expect(key.asymmetricKeyType).toBe(type);
      expect(createPublicKey(key).export({ type: "spki", format: "pem" })).toBe(text(`k-${kind}.pub`));
      expect(parsePem(text(file)).map(({ label }) => label)).toEqual(["PRIVATE KEY"]);
    },
  );

  it("does not replace a key unless it is told to, and then leaves no mode of the old file", async () => {
    const file = join(folder, "precious.key");
    writeFileSync(file, "precious", { mode: 0o644 });
    const refused = await run("keygen", "ed25519", "--out", "precious.key");
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain("--force");
    expect(text("precious.key")).toBe("precious");
    await succeed("keygen", "ed25519", "--out", "precious.key", "--force");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(createPrivateKey(text("precious.key")).asymmetricKeyType).toBe("ed25519");
    mkdirSync(join(folder, "directory"));
    expect((await run("keygen", "ed25519", "--out", "directory", "--force")).code).toBe(1);
    expect(readdirSync(folder).filter((name) => /\.new$/.test(name))).toEqual([]);
  });
});

describe("cert", () => {
  it("makes a chain that OpenSSL and we find good", async () => {
    const [alice, sub] = parsePem(text("alice.pem")).map(({ der }) => new X509Certificate(der)) as [
      X509Certificate,
      X509Certificate,
    ];
    const root = new X509Certificate(text("ca.pem"));
    expect(alice.subjectAltName).toBe(`URI:${ALICE}`);
    expect(alice.checkIssued(sub) && alice.verify(sub.publicKey)).toBe(true);
    expect(sub.checkIssued(root) && sub.verify(root.publicKey)).toBe(true);
    expect(alice.checkPrivateKey(createPrivateKey(text("alice.key")))).toBe(true);
    // A year was asked for, and the authority has a month.
    expect(new Date(alice.validTo)).toEqual(new Date(sub.validTo));
    const stdout = await succeed("cert", "check", "alice.pem", "--ca", "ca.pem", "--identity", ALICE);
    expect(stdout).toContain(`certificate CN=${ALICE} for ${ALICE}`);
    expect(stdout).toContain("good: an authority vouches for it");
  });

  it.each([
    { why: "another identity", args: ["--ca", "ca.pem", "--identity", "sip:bob@example.org"], reason: "identity" },
    { why: "another usage", args: ["--ca", "ca.pem", "--usage", "encryption"], reason: "key" },
    { why: "no authority", args: [], reason: "untrusted" },
    { why: "itself, which is not self-signed", args: ["--allow-self-signed"], reason: "untrusted" },
  ])("check says why a certificate is not good: $why", async ({ args, reason }) => {
    const outcome = await run("cert", "check", "alice.pem", ...args);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toContain(`the certificate is not accepted: ${reason} (`);
    expect(outcome.stderr).toContain("[x509.certificate]");
  });

  it("check takes revocation lists", async () => {
    const signer = nodeCrypto.importPrivateKey(parsePem(text("sub.key"))[0]?.der as Uint8Array);
    const [alice, sub] = parsePem(text("alice.pem")).map(({ der }) => der) as [Uint8Array, Uint8Array];
    const list = await issueRevocationList({
      issuer: { certificate: sub, signer },
      thisUpdate: Date.now() - 1000,
      nextUpdate: Date.now() + 3_600_000,
      revoked: [readCertificate(alice).serial],
    });
    writeFileSync(join(folder, "sub.crl"), formatPem("X509 CRL", list));
    const outcome = await run("cert", "check", "alice.pem", "--ca", "ca.pem", "--crl", "sub.crl");
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toContain("revoked");
  });

  it("issue takes a public key, several names, and says what the key is for", async () => {
    await succeed("keygen", "rsa", "--out", "camera.key", "--public", "camera.pub");
    const names = [
      "--dns",
      "camera.example.org",
      "--ip",
      "192.0.2.7",
      "--email",
      "camera@example.org",
      "--uri",
      "rtsp://camera.example.org/",
    ];
    await succeed(...ISSUE, "--key", "camera.pub", ...names, "--out", "camera.pem", "--days", "7");
    const [der] = parsePem(text("camera.pem")).map((block) => block.der) as [Uint8Array];
    const { identities, keyUsage, subject } = readCertificate(der);
    expect(identities).toEqual(["rtsp://camera.example.org/", "camera.example.org", "camera@example.org", "192.0.2.7"]);
    expect([...(keyUsage ?? [])].sort()).toEqual(["digitalSignature", "keyEncipherment"]);
    expect(subject).toBe("CN=rtsp://camera.example.org/");
    const good = await succeed(
      "cert",
      "check",
      "camera.pem",
      "--ca",
      "ca.pem",
      "--usage",
      "signature,encryption",
      "--identity",
      "rtsp://camera.example.org/live",
    );
    expect(good).toContain("good");
  });

  it("ca restricts what an authority may certify", async () => {
    await succeed(
      "cert",
      "ca",
      "--key",
      "ca.key",
      "--out",
      "narrow.pem",
      "--permit-uri",
      "example.org",
      "--permit-ip",
      "192.0.2.0/24",
      "--path-length",
      "0",
    );
    const issue = ["cert", "issue", "--ca", "narrow.pem", "--ca-key", "ca.key", "--key", "alice.key"];
    await succeed(...issue, "--uri", ALICE, "--out", "inside.pem");
    await succeed(...issue, "--uri", "sip:alice@example.net", "--out", "outside.pem");
    expect((await run("cert", "check", "inside.pem", "--ca", "narrow.pem")).code).toBe(0);
    expect((await run("cert", "check", "outside.pem", "--ca", "narrow.pem")).stderr).toContain("name-constraints");
  });

  it.each([
    { what: "no name", args: [...ISSUE, "--key", "alice.key", "--out", "x.pem"], says: "--uri" },
    {
      what: "a key of another authority",
      args: ["cert", "issue", "--ca", "ca.pem", "--ca-key", "sub.key", "--key", "alice.key", "--uri", ALICE, "--out", "x.pem"],
      says: "--ca-key is not the key",
    },
    {
      what: "an issuer that is no authority",
      args: ["cert", "issue", "--ca", "alice.pem", "--ca-key", "alice.key", "--key", "sub.key", "--uri", ALICE, "--out", "x.pem"],
      says: "no authority",
    },
    {
      what: "encryption with a curve",
      args: [...ISSUE, "--key", "alice.key", "--uri", ALICE, "--usage", "encryption", "--out", "x.pem"],
      says: "cannot encrypt",
    },
    {
      what: "a usage that is none",
      args: [...ISSUE, "--key", "alice.key", "--uri", ALICE, "--usage", "everything", "--out", "x.pem"],
      says: "expected signature",
    },
    {
      what: "a certificate in place of a key",
      args: ["cert", "ca", "--key", "ca.pem", "--out", "x.pem"],
      says: "holds no PRIVATE KEY",
    },
    { what: "a file that is not there", args: ["cert", "check", "nowhere.pem"], says: "ENOENT" },
    { what: "a file without a certificate", args: ["cert", "check", "alice.key"], says: "holds no CERTIFICATE" },
    {
      what: "a key without its certificate",
      args: ["cert", "ca", "--key", "sub.key", "--ca-key", "ca.key", "--out", "x.pem"],
      says: "go together",
    },
  ])("refuses $what with 2 and one line that helps", async ({ args, says }) => {
    const outcome = await run(...args);
    expect(outcome.code, outcome.stderr).toBe(2);
    expect(outcome.stderr).toContain(says);
    expect(outcome.stdout).toBe("");
    expect(outcome.stderr).not.toMatch(/^\s+at /m);
  });

  it("tells how to turn an older form of key into the one it reads, and does not repeat the key", async () => {
    const old = createPrivateKey(text("alice.key")).export({ type: "sec1", format: "pem" }) as string;
    writeFileSync(join(folder, "old.key"), old, { mode: 0o600 });
    const outcome = await run("cert", "ca", "--key", "old.key", "--out", "x.pem");
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain("openssl pkcs8 -topk8 -nocrypt");
    expect(outcome.stderr).not.toContain(old.split("\n")[1]);
  });

  it.runIf(process.platform !== "win32")("takes no private key that others may read", async () => {
    writeFileSync(join(folder, "open.key"), text("alice.key"), { mode: 0o644 });
    const outcome = await run("cert", "ca", "--key", "open.key", "--out", "x.pem");
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain("chmod 600 open.key");
  });

  it.each([
    ["cert", "ca"],
    ["cert", "issue"],
    ["cert", "check"],
    ["keygen", "rsa"],
  ])("%s %s --help shows examples", async (...args) => {
    expect(await succeed(...args, "--help")).toContain("Examples:");
  });
});
