import { resolve } from "node:path";
import { createContext, Script } from "node:vm";
import { build } from "vite";
import { expect, it } from "vitest";
import x509 from "../vectors/x509-openssl.json" with { type: "json" };

const DIST = resolve(import.meta.dirname, "../../dist");
const P384 = x509.chains.find(({ name }) => name === "p384-sha384");

/** What a page does that has certificates: makes keys and an authority, issues, verifies, opens an envelope. */
const PAGE = `
  import { defaultCrypto } from "${DIST}/crypto/index.js";
  import { createCertificateVerifier, issueCertificate } from "${DIST}/crypto/x509/index.js";
  const octets = (hex) => Uint8Array.from(hex.match(/../g), (digits) => parseInt(digits, 16));
  const make = async (kind) => defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair(kind)).pkcs8);
  globalThis.outcome = (async () => {
    const [authority, alice] = [await make("ed25519"), await make("rsa")];
    const identity = "sip:alice@example.org";
    const dates = { notBefore: 0, notAfter: 1e12 };
    const root = await issueCertificate({ commonName: "root", publicKey: authority.publicKey, issuer: authority, authority: {}, ...dates });
    const leaf = await issueCertificate({
      commonName: "alice", publicKey: alice.publicKey, issuer: { certificate: root, signer: authority }, uris: [identity], ...dates,
    });
    const requirements = { now: 1e11, usage: ["signature", "encryption"], identity };
    const verified = await createCertificateVerifier({ roots: [root] }).verify([leaf], requirements);
    const reason = await createCertificateVerifier({ roots: [] }).verify([leaf], requirements).catch((error) => error.reason);
    const ciphertext = await defaultCrypto.encrypt(verified.publicKey, "rsa-oaep-sha256", octets("00010203"));
    const secret = await alice.decrypt("rsa-oaep-sha256", ciphertext, 4);
    const foreign = createCertificateVerifier({ roots: [octets("${P384?.root}")] });
    const { subject } = await foreign.verify([octets("${P384?.leaf}")], { now: ${x509.now}, usage: "signature", identity });
    return { backend: defaultCrypto.name, trust: verified.trust, reason, secret: secret.join(), subject };
  })();
`;

it("keys and certificates work where there is nothing but what the web has", async () => {
  const entry = "virtual:page";
  const built = await build({
    root: resolve(DIST, ".."),
    configFile: false,
    logLevel: "error",
    plugins: [
      {
        name: "page",
        resolveId: (id) => (id === entry ? id : undefined),
        load: (id) => (id === entry ? PAGE : undefined),
      },
    ],
    build: { write: false, rolldownOptions: { input: entry, output: { format: "iife" } } },
  });
  if (!("output" in built)) throw new Error("no bundle");
  const [{ code }, ...others] = built.output;
  expect(others).toEqual([]);
  // What a bundler puts in place of a module of Node's.
  expect(code).not.toMatch(/browser-external|\brequire\(/);
  const page = createContext({ console, crypto, TextEncoder, TextDecoder, URL });
  new Script(code).runInContext(page);
  expect(await page["outcome"]).toEqual({
    backend: "noble",
    trust: "anchor",
    reason: "untrusted",
    secret: "0,1,2,3",
    subject: "CN=leaf",
  });
});
