import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { createContext, Script } from "node:vm";
import { build } from "vite";
import { expect, it } from "vitest";

const DIST = resolve(import.meta.dirname, "../../dist");
const manifest = JSON.parse(readFileSync(resolve(DIST, "../package.json"), "utf8")) as {
  imports: Record<string, { default: string }>;
};

/** Every module that a bundle for browsers would have, and the packages that it would take along. */
function bundled(entry: string): { readonly files: readonly string[]; readonly packages: readonly string[] } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const walk = (file: string): void => {
    if (files.has(file)) return;
    files.add(file);
    for (const [, specifier = ""] of readFileSync(file, "utf8").matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)"([^"\s]+)"/g)) {
      const inner = manifest.imports[specifier]?.default;
      if (inner !== undefined) walk(resolve(DIST, "..", inner));
      else if (specifier.startsWith(".")) walk(resolve(dirname(file), specifier));
      else
        packages.add(
          specifier
            .split("/")
            .slice(0, specifier.startsWith("@") ? 2 : 1)
            .join("/"),
        );
    }
  };
  walk(resolve(DIST, entry));
  return { files: [...files], packages: [...packages].sort() };
}

it.each(["sip/index.js", "sip/sipjs/index.js"])(
  "%s runs in a browser: nothing of Node, nothing but portable packages, no sip.js",
  (entry) => {
    const { files, packages } = bundled(entry);
    expect(files.length).toBeGreaterThan(30);
    expect(files.every((file) => existsSync(file))).toBe(true);
    expect(files.filter((file) => file.startsWith(resolve(DIST, "node/")))).toEqual([]);
    expect(packages).toEqual(["@noble/ciphers", "@noble/curves", "@noble/hashes", "sdp-transform"]);
  },
);

/** A softphone, as an application bundles it: sip.js, the adapter, and two parties that key a call. */
const SOFTPHONE = `
  import { UserAgent } from "sip.js";
  import { createPskSipKeying } from "${DIST}/sip/index.js";
  import { createSessionDescriptionHandlerFactory } from "${DIST}/sip/sipjs/index.js";
  const [alice, bob] = ["sip:alice@example.org", "sip:bob@example.org"];
  const sdp = "v=0\\r\\no=- 1 1 IN IP4 192.0.2.1\\r\\ns=-\\r\\nc=IN IP4 192.0.2.1\\r\\nt=0 0\\r\\nm=audio 4000 RTP/AVP 0\\r\\n";
  const psk = crypto.getRandomValues(new Uint8Array(32));
  const timers = {
    after: (time, call) => { const id = setTimeout(call, time); return { cancel: () => clearTimeout(id) }; },
    every: (time, call) => { const id = setInterval(call, time); return { cancel: () => clearInterval(id) }; },
  };
  const keyingOf = (uri, peer) => createPskSipKeying({ uri, keys: [[peer, psk]], clock: { now: () => Date.now() }, timers });
  globalThis.outcome = (async () => {
    const keying = keyingOf(alice, bob);
    const agent = new UserAgent({
      uri: UserAgent.makeURI(alice),
      transportConstructor: class { stateChange = { addListener() {} }; },
      logBuiltinEnabled: false,
      sessionDescriptionHandlerFactory: createSessionDescriptionHandlerFactory({ keying, media: () => ({}) }),
    });
    const facts = { callId: "1", callerTag: "a" };
    const caller = keying.dialog({ ...facts, remote: bob });
    const callee = keyingOf(bob, alice).dialog({ ...facts, remote: alice });
    for (const [from, to] of [[caller, callee], [callee, caller]]) {
      await to.acceptOffer(await from.createOffer(sdp));
      await from.acceptAnswer(await to.createAnswer(sdp));
    }
    const packet = Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? 0x80 : at));
    let heard;
    callee.streams[0].onRtp = (opened) => { heard = opened.join(); };
    callee.streams[0].receive(caller.streams[0].protect(packet));
    const { verdict, body } = callee.acceptEnd(caller.end());
    const answered = caller.acceptEndAnswer(body);
    for (const dialog of [caller, callee]) dialog.close();
    return { agent: agent.configuration.uri.toString(), heard: heard === packet.join(), verdict, answered };
  })();
`;

it("bundles with sip.js for a browser, and keys a call where there is nothing but what the web has", async () => {
  const entry = "virtual:softphone";
  const built = await build({
    root: resolve(DIST, ".."),
    configFile: false,
    logLevel: "error",
    plugins: [
      {
        name: "softphone",
        resolveId: (id) => (id === entry ? id : undefined),
        load: (id) => (id === entry ? SOFTPHONE : undefined),
      },
    ],
    build: { write: false, rolldownOptions: { input: entry, output: { format: "iife" } } },
  });
  if (!("output" in built)) throw new Error("no bundle");
  const [{ code }, ...others] = built.output;
  expect(others).toEqual([]);
  // What a bundler puts in place of a module of Node's.
  expect(code).not.toMatch(/browser-external|\brequire\(/);
  const web = { console, crypto, TextEncoder, TextDecoder, URL, setTimeout, clearTimeout, setInterval, clearInterval, atob, btoa };
  const page = createContext({ ...web });
  new Script(code).runInContext(page);
  expect(await page["outcome"]).toEqual({ agent: "sip:alice@example.org", heard: true, verdict: "verified", answered: "verified" });
});
