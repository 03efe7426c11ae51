import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { concatBytes, Reader, utf8Text } from "../../src/bytes/index.js";
import { exportJanus } from "../../src/tools/index.js";
import { checkTone, freeTarget, sealTone, sendPaced, temporaryFolder } from "../exported.js";
import { describePeer } from "../peers.js";
import { startProcess } from "../process.js";

const test = { onTestFinished };
const SUITES = ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"] as const;
const PACKETS = 120;
/** Janus writes through a buffer of the C library. */
const BUFFER = 4096;
const PLUGINS =
  ["/usr/lib", "/usr/local/lib", ...multiarch()].map((folder) => join(folder, "janus/plugins")).find(existsSync) ?? "";

/** Debian keeps plugins below the folder of the architecture. */
function multiarch(): string[] {
  return readdirSync("/usr/lib", { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name.endsWith("-linux-gnu"))
    .map((entry) => join("/usr/lib", entry.name));
}

type JanusAnswer = {
  readonly janus: string;
  readonly data?: { readonly id: number };
  readonly plugindata?: { readonly data: object };
};

/** Janus with its Streaming plugin and nothing else, spoken to over HTTP. @returns sends a request to the plugin */
async function startJanus(folder: string): Promise<(body: object) => Promise<object>> {
  const { port } = await freeTarget();
  const configs = join(folder, "conf");
  mkdirSync(configs);
  const transports = PLUGINS.replace(/plugins$/, "transports");
  const others = (path: string, wanted: string): string =>
    readdirSync(path)
      .filter((name) => name.endsWith(".so") && name !== wanted)
      .join(",");
  const files = {
    "janus.jcfg": `general: { configs_folder = "${configs}" plugins_folder = "${PLUGINS}" transports_folder = "${transports}" debug_level = 3 }
plugins: { disable = "${others(PLUGINS, "libjanus_streaming.so")}" }
transports: { disable = "${others(transports, "libjanus_http.so")}" }
loggers: { disable = "libjanus_jsonlog.so" }`,
    "janus.transport.http.jcfg": `general: { base_path = "/janus" http = true port = ${port} ip = "127.0.0.1" https = false }
admin: { admin_http = false }`,
    "janus.plugin.streaming.jcfg": "general: { }",
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(configs, name), `${text}\n`);
  const args = [`--configs-folder=${configs}`, `--config=${join(configs, "janus.jcfg")}`, "--interface=127.0.0.1"];
  const janus = startProcess(test, "janus", args, { cwd: folder });
  const post = async (path: string, body: object): Promise<JanusAnswer> => {
    const request = { method: "POST", body: JSON.stringify({ transaction: "watchword", ...body }) };
    return (await (await fetch(`http://127.0.0.1:${port}/janus${path}`, request)).json()) as JanusAnswer;
  };
  let session: number | undefined;
  await expect
    .poll(
      async () => {
        session = (await post("", { janus: "create" }).catch(() => undefined))?.data?.id;
        return session !== undefined || `${janus.stdout.slice(-2000)}${janus.stderr}`;
      },
      { timeout: 15_000 },
    )
    .toBe(true);
  const handle = (await post(`/${session}`, { janus: "attach", plugin: "janus.plugin.streaming" })).data?.id;
  return async (body) => (await post(`/${session}/${handle}`, { janus: "message", body })).plugindata?.data ?? {};
}

/** The payloads of the RTP packets in a Janus recording: after a header, frames of time, length and packet. */
function recordedPayloads(path: string): Uint8Array[] {
  const reader = new Reader(new Uint8Array(readFileSync(path)), "mjr");
  expect(utf8Text(reader.bytes("magic", 8))).toBe("MJR00002");
  reader.bytes("info", reader.u16("infoLength"));
  const payloads: Uint8Array[] = [];
  while (reader.remaining > 0) {
    expect(utf8Text(reader.bytes("magic", 4))).toBe("MEET");
    reader.u32("time");
    payloads.push(reader.bytes("packet", reader.u16("length")).subarray(12));
  }
  return payloads;
}

describePeer("janus", "takes exported keys", () => {
  it(`records in the clear what comes to the exported mountpoints [export of keys, ${SUITES.join(", ")}]`, async () => {
    const folder = temporaryFolder(test, "janus");
    const ask = await startJanus(folder);
    for (const [index, suite] of SUITES.entries()) {
      const id = index + 1;
      const { stream, packets } = sealTone(suite, { count: PACKETS });
      const target = await freeTarget();
      const created = await ask({ request: "create", id, ...exportJanus({ ...stream, target }) });
      expect(created, suite).toMatchObject({ streaming: "created" });
      const media = { mid: "audio", filename: join(folder, suite) };
      expect(await ask({ request: "recording", action: "start", id, media: [media] })).toMatchObject({ streaming: "ok" });
      await sendPaced(test, packets, target);
      const written = (): number => readFileSync(`${media.filename}.mjr`).length;
      await expect.poll(written, { timeout: 5000, message: suite }).toBeGreaterThanOrEqual(4 * BUFFER);
      expect(await ask({ request: "recording", action: "stop", id, media: [media] })).toMatchObject({ streaming: "ok" });
      expect(checkTone(concatBytes(...recordedPayloads(`${media.filename}.mjr`))), suite).toBeGreaterThan(PACKETS / 2);
    }
  });
});
