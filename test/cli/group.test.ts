import { createSocket } from "node:dgram";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createProgram, type Running } from "./program.js";

const { folder, start, succeed } = createProgram("group");

/** Where plain RTP goes: an even port. */
async function openEar(): Promise<{ readonly where: string; readonly heard: Promise<unknown> }> {
  for (;;) {
    const socket = createSocket("udp4");
    await new Promise<void>((done) => socket.bind(0, "127.0.0.1", done));
    const { port } = socket.address();
    if (port % 2 !== 0) {
      socket.close();
      continue;
    }
    onTestFinished(() => void socket.close());
    return { where: `rtp://127.0.0.1:${port}`, heard: new Promise((done) => socket.once("message", done)) };
  }
}

const GCKS = "sip:gcks@example.org";
const keep = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
const as = (name: string): string[] => ["--key", `${name}.key`, "--cert", `${name}.pem`, "--ca", "ca.pem", "--gcks", GCKS];
const admin = (url: string, ...args: readonly string[]) => [...args, "--url", url, "--token-file", "admin.token"];

const config = {
  identity: GCKS,
  keys: "members.txt",
  certificates: { key: "gcks.key", certificate: "gcks.pem", issuers: ["ca.pem"] },
  signingKey: "signing.key",
  sip: [
    { transport: "udp", listen: "127.0.0.1:0" },
    { transport: "tls", listen: "127.0.0.1:0", certificate: "tls.pem", key: "gcks.key" },
  ],
  rtsp: [{ listen: "127.0.0.1:0" }, { listen: "127.0.0.1:0", certificate: "tls.pem", key: "gcks.key" }],
  control: { interface: "lo" },
  admin: { listen: "127.0.0.1:0", token: { file: "admin.token" } },
  groups: [
    {
      name: "blue",
      members: [
        { identity: "sip:speaker@example.org", role: "sender" },
        { identity: "sip:*@example.org", role: "receiver" },
      ],
      streams: [{ media: "audio", formats: [0], lines: ["a=rtpmap:0 PCMU/8000"], address: "239.255.62.2", port: 47_400 }],
      rekey: { activationDelay: 0.2, deactivationDelay: 4, heartbeat: 1, retransmissionInterval: 0.1, resynchronisationDelay: 0.2 },
    },
  ],
};

let gcks: Running;
let uris: readonly string[];
let administration: string;

beforeAll(async () => {
  const issue = (name: string, ...who: readonly string[]) =>
    succeed("cert", "issue", "--ca", "ca.pem", "--ca-key", "ca.key", "--key", `${name}.key`, "--out", `${name}.pem`, ...who);
  await Promise.all([
    ...["ca", "tls"].map((name) => succeed("keygen", "p256", "--out", `${name}.key`)),
    ...["gcks", "speaker", "listener"].map((name) => succeed("keygen", "rsa", "--out", `${name}.key`)),
    succeed("keygen", "ed25519", "--out", "signing.key"),
  ]);
  await succeed("cert", "ca", "--key", "ca.key", "--out", "ca.pem");
  await Promise.all([
    issue("gcks", "--uri", GCKS),
    ...["speaker", "listener"].map((name) => issue(name, "--uri", `sip:${name}@example.org`)),
    succeed(
      ...["cert", "issue", "--ca", "ca.pem", "--ca-key", "ca.key", "--key", "gcks.key", "--ip", "127.0.0.1", "--out", "tls.pem"],
    ),
  ]);
  keep("admin.token", "0123456789abcdef0123456789abcdef");
  keep("members.txt", `sip:listener@example.org:${"5a".repeat(16)}\n`);
  // JSON is YAML.
  keep("group.yaml", JSON.stringify(config));
  gcks = start(["gcks", "--config", "group.yaml", "--json"], "file");
  await gcks.match(/"groups":.*\n/);
  const listening = JSON.parse(/^\{"sip".*$/m.exec(gcks.said())?.[0] ?? "") as {
    admin: string;
    groups: [{ uris: string[] }];
  };
  administration = listening.admin;
  uris = listening.groups[0].uris;
}, 60_000);

describe("gcks, join and admin", () => {
  it.each([
    ["dh", 0],
    ["pk", 3],
  ] as const)(
    "by mode %s over carrier %i: a tone goes through the group, who is expelled is out, who stays leaves with a proof",
    async (mode, carrier) => {
      const uri = uris[carrier] as string;
      const how = ["--mode", mode, "--interface", "lo", "--json", ...(mode === "pk" ? ["--peer-cert", "gcks.pem"] : [])];
      const { where, heard } = await openEar();
      const speaker = start(["join", uri, ...as("speaker"), ...how, "--role", "sender", "--tone"]);
      const listener = start(["join", uri, ...as("listener"), ...how, "--role", "receiver", "--out", where]);
      await Promise.all([speaker, listener].map((member) => member.match(/"event":"joined"/)));
      await heard;
      const expelled = await succeed("admin", "expel", "blue", ...admin(administration, "sip:listener@example.org"));
      expect(expelled).toBe("1 expelled\n");
      // It asks once more, in case that it was let in again, and believes the answer, which is proven.
      const out = await listener.ended;
      expect(out.code, out.stderr).toBe(3);
      expect(out.stderr).toContain("[member.refused]");
      expect(out.stdout).toContain('"event":"refused"');
      expect(Number(/"received":(\d+)/.exec(out.stdout)?.[1])).toBeGreaterThan(0);
      await succeed("admin", "readmit", "blue", ...admin(administration, "sip:listener@example.org"));
      speaker.child.kill("SIGTERM");
      const left = await speaker.ended;
      expect(left.stdout).toContain('"event":"left","proof":"verified"');
      expect(left.code, left.stderr).toBe(0);
    },
    60_000,
  );
});
