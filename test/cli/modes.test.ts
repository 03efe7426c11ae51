import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { formatBase64, parseHex } from "../../src/bytes/index.js";
import { formatPem } from "../../src/crypto/index.js";
import { vectorFiles } from "../mikey/mikey-vectors.js";
import { createProgram, lastJson as json } from "./program.js";

const { folder, start, run, succeed } = createProgram("modes");

/** Starts a command that says where it is reached. */
async function started(pattern: RegExp, ...args: readonly string[]) {
  const running = start(args);
  const [, where = ""] = await running.match(pattern);
  return { ...running, where };
}

const startServer = (...args: readonly string[]) => started(/^listening (\S+)$/m, "serve", "--listen", "127.0.0.1:0", ...args);

const as = (name: string, ca = "ca.pem"): string[] => ["--key", `${name}.key`, "--cert", `${name}.pem`, "--ca", ca];
const KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

beforeAll(async () => {
  const issue = (name: string, ca: string, ...who: readonly string[]) =>
    succeed("cert", "issue", "--ca", `${ca}.pem`, "--ca-key", `${ca}.key`, "--key", `${name}.key`, "--out", `${name}.pem`, ...who);
  const rsa = ["camera", "viewer", "alice", "bob"];
  await Promise.all([
    ...["ca", "other", "curve", "lens"].map((name) => succeed("keygen", "p256", "--out", `${name}.key`)),
    ...rsa.map((name) => succeed("keygen", "rsa", "--out", `${name}.key`)),
  ]);
  await Promise.all(["ca", "other"].map((name) => succeed("cert", "ca", "--key", `${name}.key`, "--out", `${name}.pem`)));
  await succeed("cert", "revoke", "--ca", "ca.pem", "--ca-key", "ca.key", "--out", "none.crl");
  await Promise.all([
    issue("camera", "ca", "--ip", "127.0.0.1"),
    issue("viewer", "ca", "--email", "viewer@example.org"),
    issue("curve", "ca", "--email", "curve@example.org"),
    issue("lens", "ca", "--ip", "127.0.0.1"),
    issue("alice", "ca", "--uri", "sip:alice@127.0.0.1"),
    issue("bob", "ca", "--uri", "sip:bob@127.0.0.1"),
  ]);
}, 60_000);

describe("serve and play", () => {
  it.each([
    ["dh", [], ["--rtsp", "1.0"]],
    ["rsa-r", [], ["--rtsp", "2.0", "--rekey", "0.3"]],
    ["pk", ["--peer-cert", "viewer.pem"], []],
  ] as const)("key by certificates: %s", async (mode, serving, playing) => {
    const server = await startServer(...as("camera"), "--rekey", "0.3", "--mode", mode, ...serving);
    const played = await run("play", server.where, ...as("viewer"), "--packets", "60", "--json", "--mode", mode, ...playing);
    const summary = json(played);
    expect(summary).toMatchObject({ keyedBy: mode, lost: 0, authenticationFailures: 0, teardownProof: "verified" });
    // Rekeyed, by either end: the MKI is another than at SETUP.
    const [, first] = /MKI ([0-9a-f]+)/.exec(played.stderr) ?? [];
    expect(first).toMatch(/^[0-9a-f]{8}$/);
    expect(summary["mki"]).not.toBe(first);
  });

  it("a server and a player with one key pair are not told apart, and the server says why", async () => {
    const server = await startServer(...as("camera"));
    const played = await run("play", server.where, ...as("camera"), "--rtsp", "2.0", "--packets", "20");
    expect(played.code).toBe(1);
    expect(server.said()).toContain("the message is of our own identity or key");
  });

  it("take no certificate that the authority has revoked", async () => {
    const revoke = (name: string, ...more: string[]) =>
      succeed("cert", "revoke", ...more, "--ca", "ca.pem", "--ca-key", "ca.key", "--out", `${name}.crl`);
    expect(await revoke("viewer", "viewer.pem")).toMatch(/^viewer\.crl: 1 revoked, good until /);
    expect(await revoke("both", "camera.pem", "--crl", "viewer.crl")).toMatch(/^both\.crl: 2 revoked/);
    const serving = (list: string) => startServer(...as("camera"), "--crl", list);
    const playing = (where: string, list: string) =>
      run("play", where, ...as("viewer"), "--crl", list, "--crl", "none.crl", "--packets", "20", "--json");
    const careless = await serving("none.crl");
    expect(json(await playing(careless.where, "none.crl"))).toMatchObject({ teardownProof: "verified" });
    expect((await playing(careless.where, "both.crl")).stderr).toMatch(/key message not accepted: .*revoked/);
    const careful = await serving("viewer.crl");
    expect((await playing(careful.where, "none.crl")).code).toBe(1);
    expect(careful.said()).toMatch(/key message not accepted: .*revoked/);
  });

  it("agree under a pre-shared key: dhhmac", async () => {
    const psk = ["--psk", `viewer:${KEY}`, "--mode", "dhhmac"];
    const server = await startServer(...psk);
    for (const version of ["1.0", "2.0"])
      expect(json(await run("play", server.where, ...psk, "--rtsp", version, "--packets", "20", "--json"))).toMatchObject({
        keyedBy: "dhhmac",
        teardownProof: "verified",
      });
  });

  it("begin by a signature of another kind than RSA's where the server announces that it knows them", async () => {
    const server = await startServer(...as("camera"), "--mode", "rsa-r", "--peer", "nobody@example.org");
    const refused = await run("play", server.where, ...as("viewer"), "--packets", "20");
    expect(refused).toMatchObject({ code: 1 });
    const second = await startServer(...as("lens"));
    const played = await run("play", second.where, ...as("curve"), "--packets", "20", "--json");
    expect(json(played)).toMatchObject({ keyedBy: "dh", teardownProof: "verified" });
  });

  it("play takes nothing from a server that is not the one in the URL, or of an authority that it does not know", async () => {
    const server = await startServer(...as("viewer"));
    const stranger = await run("play", server.where, ...as("camera"), "--packets", "1");
    expect(stranger.code).toBe(1);
    expect(stranger.stderr).toMatch(/identity/);
    expect(stranger.stderr).toContain("[mikey.authentication]");
    const unknown = await run("play", server.where, ...as("camera", "other.pem"), "--packets", "1");
    expect(unknown.code).toBe(1);
    expect(unknown.stderr).toMatch(/untrusted/);
    const named = await run("play", server.where, ...as("camera"), "--peer", "viewer@example.org", "--packets", "5", "--json");
    expect(json(named)).toMatchObject({ keyedBy: "dh" });
  });
});

describe("several kinds of credentials, and of peers", () => {
  const psk = ["--psk", `viewer:${KEY}`];
  const serving = (...args: readonly string[]) => startServer("--path", "/both", ...as("camera"), ...args);

  it("serve takes a pre-shared key or a certificate, and offers who is named in the keys what it has", async () => {
    const server = await serving(...psk);
    const plays = async (...args: readonly string[]) => json(await run("play", server.where, ...args, "--packets", "20", "--json"));
    const proven = { lost: 0, authenticationFailures: 0, teardownProof: "verified" };
    expect(await plays(...psk)).toMatchObject({ keyedBy: "psk", ...proven });
    expect(await plays(...as("viewer"))).toMatchObject({ keyedBy: "dh", ...proven });
    expect(await plays(...as("viewer"), "--rtsp", "2.0")).toMatchObject({ keyedBy: "rsa-r", ...proven });
    expect(await plays(...psk, "--mode", "dhhmac", "--rtsp", "2.0", "--peer", "127.0.0.1")).toMatchObject({
      keyedBy: "dhhmac",
      ...proven,
    });
    expect((await run("play", server.where, "--packets", "1", "--allow-null-keying")).code).toBe(1);
    const other = ["--psk", `viewer:${KEY.replace("00", "ff")}`];
    expect((await run("play", server.where, ...other, "--packets", "1")).stderr).toContain("[mikey.authentication]");
  });

  it("serve takes the modes that are listed and no other", async () => {
    const server = await serving(...psk, "--mode", "rsa-r,dhhmac");
    const codes = [
      await run("play", server.where, ...psk, "--mode", "dhhmac", "--packets", "5", "--rtsp", "1.0"),
      await run("play", server.where, ...as("viewer"), "--mode", "rsa-r", "--packets", "5", "--rtsp", "2.0"),
      await run("play", server.where, ...as("viewer"), "--mode", "dh", "--packets", "5", "--rtsp", "2.0"),
      await run("play", server.where, ...psk, "--mode", "psk", "--packets", "5", "--rtsp", "2.0"),
    ].map(({ code }) => code);
    expect(codes).toEqual([0, 0, 1, 1]);
  });

  it("peers of RFC 3830 alone, who sign with SHA-1, are known where both ends say so and refused elsewhere", async () => {
    const old = ["--algorithms", "rfc3830"];
    const [server, modern] = await Promise.all([serving(...old), serving()]);
    const plays = (where: string, ...args: readonly string[]) =>
      run("play", where, ...as("viewer"), ...args, "--packets", "10", "--json");
    for (const version of ["1.0", "2.0"]) {
      expect(json(await plays(server.where, ...old, "--rtsp", version))).toMatchObject({ teardownProof: "verified" });
      expect(await plays(modern.where, ...old, "--rtsp", version)).toMatchObject({ code: 1 });
      expect(await plays(server.where, "--rtsp", version), "what it signs").toMatchObject({ code: 1 });
    }
  });
});

describe("call and answer", () => {
  it("agree under a pre-shared key: dhhmac, rekeyed, and refused in any other mode", async () => {
    const psk = ["--psk", `default:${KEY}`];
    const answering = await started(
      /^answering (\S+)$/m,
      ...["answer", "--listen", "127.0.0.1:0", ...psk, "--mode", "dhhmac", "--calls", "1", "--json"],
    );
    const other = await run("call", answering.where, ...psk, "--packets", "1");
    expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("[node.sip-status-488]") });
    const args = ["--mode", "dhhmac", "--packets", "60", "--rekey", "0.3", "--json"];
    const called = json(await run("call", answering.where, ...psk, ...args));
    expect(called).toMatchObject({ keyedBy: "dhhmac", lost: 0, authenticationFailures: 0, teardownProof: "verified" });
    expect(called["rekeys"]).toBeGreaterThan(0);
    expect(json(await answering.ended)).toMatchObject({ keyedBy: "dhhmac", teardownProof: "verified" });
  });

  it("take either credential at once, and call once more with the suite that the other party names", async () => {
    const answering = await started(
      /^answering (\S+)$/m,
      ...["answer", "--listen", "127.0.0.1:0", ...as("bob"), "--psk", `default:${KEY}`, "--calls", "2", "--json"],
      ...["--suite", "AES_256_CM_HMAC_SHA1_80,AES_CM_128_HMAC_SHA1_80"],
    );
    const suites = ["--suite", "AEAD_AES_256_GCM,AES_CM_128_HMAC_SHA1_80"];
    const shared = ["--psk", `default:${KEY}`, ...suites];
    const first = await run("call", answering.where, ...shared, "--packets", "20", "--json");
    expect(json(first)).toMatchObject({ keyedBy: "psk", suite: "AES_CM_128_HMAC_SHA1_80", teardownProof: "verified" });
    expect(first.stderr).toContain("once more, with AES_CM_128_HMAC_SHA1_80");
    const second = await run("call", answering.where, ...as("alice"), "--packets", "20", "--json");
    expect(json(second)).toMatchObject({ keyedBy: "dh", teardownProof: "verified" });
    expect((await answering.ended).code).toBe(0);
  });

  it.each([
    ["dh", []],
    ["rsa-r", []],
    ["pk", ["--peer-cert", "bob.pem"]],
  ] as const)("key by certificates: %s", async (mode, calling) => {
    const answering = await started(
      /^answering (\S+)$/m,
      "answer",
      "--listen",
      "127.0.0.1:0",
      ...as("bob"),
      "--mode",
      mode,
      "--calls",
      "1",
      "--json",
    );
    expect(answering.where).toMatch(/^sip:bob@127\.0\.0\.1:\d+$/);
    const called = await run(
      "call",
      answering.where,
      ...as("alice"),
      "--mode",
      mode,
      "--packets",
      "60",
      "--rekey",
      "0.3",
      "--json",
      ...calling,
    );
    expect(json(called)).toMatchObject({ keyedBy: mode, lost: 0, teardownProof: "verified" });
    expect(json(await answering.ended)).toMatchObject({
      keyedBy: mode,
      remote: expect.stringContaining("sip:alice@"),
      teardownProof: "verified",
    });
  });

  it("a caller whose certificate was revoked is refused with 488", async () => {
    await succeed("cert", "revoke", "alice.pem", "--ca", "ca.pem", "--ca-key", "ca.key", "--out", "alice.crl");
    const careful = [...as("bob"), "--crl", "alice.crl"];
    const answering = await started(/^answering (\S+)$/m, "answer", "--listen", "127.0.0.1:0", ...careful);
    const called = await run("call", answering.where, ...as("alice"), "--crl", "none.crl", "--packets", "1");
    expect(called.stderr).toContain("[node.sip-status-488]");
    expect(called.stderr).not.toMatch(/revoked/);
    expect(answering.said()).toMatch(/key message not accepted: .*revoked/);
  });

  it("a caller of another authority is refused with 488, and told nothing of why", async () => {
    const answering = await started(/^answering (\S+)$/m, "answer", "--listen", "127.0.0.1:0", ...as("bob", "other.pem"));
    const called = await run("call", answering.where, ...as("alice"), "--packets", "1");
    expect(called.code).toBe(1);
    expect(called.stderr).toContain("[node.sip-status-488]");
    expect(called.stderr).not.toMatch(/untrusted/);
    expect(answering.said()).toMatch(/key message not accepted: .*untrusted/);
  });
});

describe("wrong usage", () => {
  it.each([
    ["a key without its certificate", ["serve", "--key", "camera.key"], "--key and --cert go together"],
    ["a key without authorities", ["serve", "--key", "camera.key", "--cert", "camera.pem"], "--ca says whose certificates"],
    ["two kinds of credentials of a player", ["play", "rtsp://127.0.0.1/", ...as("camera"), "--psk", `viewer:${KEY}`], "not both"],
    ["a key pair that no mode uses", ["serve", ...as("camera"), "--psk", `v:${KEY}`, "--mode", "psk"], "--key is of no use"],
    ["a pre-shared key that no mode uses", ["serve", ...as("camera"), "--psk", `v:${KEY}`, "--mode", "dh,pk"], "is of no use"],
    ["algorithms of signatures without a key", ["serve", "--psk", `v:${KEY}`, "--algorithms", "rfc3830"], "--algorithms rfc3830"],
    [
      "a key of another certificate",
      ["serve", "--key", "viewer.key", "--cert", "camera.pem", "--ca", "ca.pem"],
      "not the key of the certificate",
    ],
    ["a mode without its credential", ["play", "rtsp://127.0.0.1/", "--mode", "dh"], "--mode dh needs --key"],
    ["a pre-shared mode without a key", ["serve", ...as("camera"), "--mode", "psk"], "--mode psk needs --psk"],
    ["revocation lists without a key", ["serve", "--psk", `v:${KEY}`, "--crl", "none.crl"], "--crl and --key"],
    ["a mode that is none", ["serve", "--mode", "dh,kms"], "known modes"],
    [
      "RSA-R with a key that does not decrypt",
      ["play", "rtsp://127.0.0.1/", ...as("curve"), "--mode", "rsa-r"],
      "needs an RSA key",
    ],
    ["PK without the other's certificate", ["call", "sip:bob@127.0.0.1", ...as("alice"), "--mode", "pk"], "--peer-cert"],
    ["a certificate that names no SIP address", ["answer", "--listen", "127.0.0.1:0", ...as("viewer")], "names no SIP address"],
    [
      "multicast in a mode that cannot",
      ["serve", "--multicast", "239.1.2.3", "--psk", `v:${KEY}`, "--mode", "dhhmac"],
      "one key for all",
    ],
    ["a credential without --verify", ["inspect", "AQAFgM0XflABAAAA", "--psk", `v:${KEY}`], "--verify"],
    [
      "--verify without a credential",
      ["inspect", "AQAFgM0XflABAAAA", "--verify"],
      "--verify needs --psk, --psk-file, --key, --ca, --peer-cert or --peer-key",
    ],
  ] as const)("%s", async (_what, args, said) => {
    const { code, stderr } = await run(...args);
    expect(stderr).toContain(said);
    expect(code).toBe(2);
  });
});

describe("inspect --verify", () => {
  const pk = vectorFiles.find(({ name }) => name === "mikey-pk.json");
  const vector = pk?.vectors.find(({ name }) => name === "pk-oaep-pss-chash");
  const [first] = vector?.exchanges ?? [];
  const text = (octets: readonly string[]): string =>
    octets.map((hex) => `a=key-mgmt:mikey ${formatBase64(parseHex(hex))}\n`).join("\n");

  beforeAll(() => {
    const pem = (label: string, hex = "") => formatPem(label, parseHex(hex));
    writeFileSync(join(folder, "vector-root.pem"), pem("CERTIFICATE", pk?.credentials?.["root"]?.certificate));
    writeFileSync(
      join(folder, "vector-bob.key"),
      pem("PRIVATE KEY", pk?.credentials?.[first?.iMessage.envelope?.recipient ?? ""]?.pkcs8),
      { mode: 0o600 },
    );
    writeFileSync(join(folder, "exchange.txt"), text([first?.iMessage.octets ?? "", first?.rMessage?.octets ?? ""]));
    const spoilt = (first?.iMessage.octets ?? "").replace(/..$/, (last) => (last === "00" ? "01" : "00"));
    writeFileSync(join(folder, "spoilt.txt"), text([spoilt]));
  });

  it("checks signature, certificate and MAC, and decrypts; keys are hidden unless they are asked for", async () => {
    const args = ["inspect", "--verify", "exchange.txt", "--key", "vector-bob.key", "--ca", "vector-root.pem"];
    const hidden = await run(...args);
    expect(hidden.stdout).toContain(
      "message 1 of 2: authentic, by sip:alice@example.org: the signature is right\n          TGK ****",
    );
    expect(hidden.stdout).toContain("message 2 of 2: authentic: the MAC is right\n");
    const key = first?.keys[0]?.key as string;
    expect(hidden.stdout).not.toContain(key);
    const { stdout } = await run(...args, "--json", "--reveal");
    expect(JSON.parse(stdout)).toMatchObject([
      { verification: { verdict: "authentic", signer: ["sip:alice@example.org"], keys: [{ type: "TGK", key }] } },
      { verification: { verdict: "authentic", keys: [] } },
    ]);
  });

  it("checks messages without certificate by the keys of both parties", async () => {
    const dh = vectorFiles.find(({ name }) => name === "mikey-dh.json");
    const { iMessage, rMessage } = dh?.vectors.find(({ name }) => name === "dh-identities-only")?.exchanges[0] ?? {};
    writeFileSync(join(folder, "bare.txt"), text([iMessage?.octets ?? "", rMessage?.octets ?? ""]));
    for (const name of ["alice", "bob"]) {
      const { spki, certificate } = dh?.credentials?.[name] ?? {};
      writeFileSync(join(folder, `vector-${name}.pub`), formatPem("PUBLIC KEY", parseHex(spki ?? "")));
      writeFileSync(join(folder, `vector-${name}.pem`), formatPem("CERTIFICATE", parseHex(certificate ?? "")));
    }
    const verdicts = async (...args: readonly string[]) => (await run("inspect", "--verify", "bare.txt", ...args)).stdout;
    const keys = await verdicts("--peer-key", "vector-bob.pub", "--peer-key", "vector-alice.pub");
    expect(keys).toContain("message 1 of 2: authentic: the signature is right");
    expect(keys).toContain("message 2 of 2: authentic: the signature is right");
    expect(await verdicts("--peer-cert", "vector-alice.pem", "--peer-cert", "vector-bob.pem")).toContain(
      "message 2 of 2: authentic",
    );
    expect(await verdicts("--peer-key", "vector-bob.pub")).toContain("message 1 of 2: NOT AUTHENTIC: the signature is wrong");
  });

  it("without the private key sees that somebody else is meant, and without the authority believes nobody", async () => {
    const outsider = await run("inspect", "--verify", "exchange.txt", "--ca", "vector-root.pem");
    expect(outsider.stdout).toContain("the keys are encrypted to somebody else");
    expect(outsider.stdout).toContain("message 2 of 2: not checked");
    const doubting = await run("inspect", "--verify", "exchange.txt", "--ca", "ca.pem");
    expect(doubting).toMatchObject({ code: 1, stdout: expect.stringContaining("message 1 of 2: NOT AUTHENTIC") });
    const spoilt = await run("inspect", "--verify", "spoilt.txt", "--ca", "vector-root.pem");
    expect(spoilt).toMatchObject({ code: 1, stdout: expect.stringContaining("the signature is wrong") });
  });
});
