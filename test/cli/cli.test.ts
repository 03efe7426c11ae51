import { createSocket } from "node:dgram";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { parseHex } from "../../src/bytes/index.js";
import { createDatagramsFactory } from "../../src/node/index.js";
import { createSrtpReceiver } from "../../src/srtp/index.js";
import type { LibsrtpPolicy } from "../../src/tools/index.js";
import { makeSelfSigned } from "../node/self-signed.js";
import { createProgram, lastJson, MAIN, type Running } from "./program.js";

const { folder, start, run } = createProgram("cli");

const KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const PSK = `viewer:${KEY}`;

async function serve(...args: readonly string[]): Promise<{ readonly url: string; readonly server: Running }> {
  const server = start(["serve", "--listen", "127.0.0.1:0", ...args]);
  const [, url] = await server.match(/^listening (rtsps?:\/\/\S+)$/m);
  return { url: url as string, server };
}

/** An even port on which nothing is bound, and neither on the next. */
async function freePort(): Promise<number> {
  const [rtp, rtcp] = await createDatagramsFactory().bindPair("0.0.0.0");
  rtp.close();
  rtcp.close();
  return rtp.local.port;
}

/** Resolves when a player has written packets into a file: then it plays, and takes signals. */
async function recorded(name: string): Promise<void> {
  const size = (): number => statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0;
  await expect.poll(size, { timeout: 20_000, interval: 20 }).toBeGreaterThan(1000);
}

describe("what fails is one JSON object more on standard output", () => {
  // RFC 863: port 9 takes connections on no machine of today.
  it.each([
    ["play", ["rtsp://127.0.0.1:9/x", "--psk", PSK], 1, "node.connection-refused"],
    ["call", ["sip:bob@127.0.0.1:9", "--psk", `default:${KEY}`, "--transport", "tcp"], 1, "node.sip-status-503"],
    ["answer", ["--psk", PSK, "--proxy", "127.0.0.1:9", "--transport", "tcp", "--register"], 1, "node.connection-refused"],
    [
      "join",
      ["rtsp://127.0.0.1:9/x", "--psk", `sip:alice@example.org:${KEY}`, "--gcks", "sip:gcks@example.org"],
      1,
      "node.connection-refused",
    ],
    ["gcks", ["--config", "nowhere.yaml"], 2, "cli.usage"],
    ["admin", ["list", "--url", "http://127.0.0.1:9"], 2, "cli.usage"],
    ["inspect", ["nowhere.bin"], 2, "cli.usage"],
    ["play", [], 2, "cli.usage"],
    ["play", ["rtsp://127.0.0.1/", "--psk", "viewer:xyz"], 2, "cli.usage"],
    ["play", ["rtsp://127.0.0.1/", "--reveal"], 2, "cli.usage"],
  ] as const)("%s %j", async (command, args, code, error) => {
    const outcome = await run(command, ...args, "--json");
    expect(outcome.code, outcome.stderr).toBe(code);
    const last = JSON.parse(outcome.stdout.trim().split("\n").at(-1) as string) as unknown;
    expect(last).toEqual({ error: { code: error, message: expect.stringMatching(/\w/) } });
    expect(outcome.stderr).toMatch(/\w/);
    expect(outcome.stdout).not.toMatch(/xyz|^\s+at /m);
  });

  it("and none where nothing fails", async () => {
    expect((await run("play", "--help", "--json")).stdout).not.toContain('"error"');
  });
});

describe("usage", () => {
  it.each([
    ["an unknown option", ["serve", "--wrong"]],
    ["an unknown command", ["wrong"]],
    ["no URL", ["play"]],
    ["a suite that is none", ["serve", "--suite", "AES_CM_1"]],
    ["a profile that is none", ["play", "rtsp://127.0.0.1/", "--profile", "nobody"]],
    ["an address without a port", ["serve", "--listen", "127.0.0.1"]],
    ["a key that is not hexadecimal", ["serve", "--psk", "viewer:xyz"]],
    ["a key that is too short", ["serve", "--psk", "viewer:00ff"]],
    ["a key file that is not there", ["serve", "--psk-file", "nowhere.txt"]],
    ["a key that is shared with the server itself", ["serve", "--psk", `watchword:${KEY}`]],
    ["nothing that protects the keys", ["serve"]],
    ["a pre-shared key and NULL keying", ["serve", "--psk", PSK, "--allow-null-keying"]],
    ["a certificate without its key", ["serve", "--tls-cert", MAIN]],
    ["a description without its source", ["serve", "--psk", PSK, "--sdp", "x.sdp"]],
    ["a rekey without an MKI", ["serve", "--psk", PSK, "--mki", "0", "--rekey", "5"]],
    ["a group that is none", ["serve", "--psk", PSK, "--multicast", "10.0.0.1"]],
    ["a group on an odd port", ["serve", "--psk", PSK, "--multicast", "239.1.2.3:5005"]],
    ["a TTL without a group", ["serve", "--psk", PSK, "--ttl", "4"]],
    ["an interface without a group", ["play", "rtsp://127.0.0.1/", "--interface", "lo"]],
    [
      "new multicast keys for who cannot take one",
      ["serve", "--allow-null-keying", "--profile", "gstreamer", "--multicast", "239.1.2.3", "--rekey-on-leave"],
    ],
    ["an output that is none", ["play", "rtsp://127.0.0.1/", "--out", "film.mp4"]],
    ["keys to print without --reveal", ["play", "rtsp://127.0.0.1/", "--export", "sdes"]],
    ["--reveal with nothing to reveal", ["play", "rtsp://127.0.0.1/", "--reveal"]],
    ["an export format that is none", ["play", "rtsp://127.0.0.1/", "--export", "vlc", "--reveal"]],
    ["sealed packets without their keys", ["play", "rtsp://127.0.0.1/", "--out", "srtp://127.0.0.1:5004"]],
    [
      "exported keys and open packets",
      ["play", "rtsp://127.0.0.1/", "--export", "sdes", "--reveal", "--out", "rtp://127.0.0.1:5004"],
    ],
    ["keys of a message without --reveal", ["inspect", "AQAFAP1td9ABAADCD1UcAAAAAAoA", "--export", "sdes"]],
    ["a file that is no message", ["inspect", "nowhere.bin"]],
  ])("%s exits with 2 and one line that helps", async (_what, args) => {
    const outcome = await run(...args);
    expect(outcome.code, outcome.stderr).toBe(2);
    expect(outcome.stdout).toBe("");
    expect(outcome.stderr.split("\n")[0]).toMatch(/\w/);
    expect(outcome.stderr).not.toContain(KEY);
    expect(outcome.stderr).not.toMatch(/^\s+at /m);
  });

  it.each([["--help"], ["serve", "--help"], ["play", "--help"], ["inspect", "--help"], ["keygen", "psk", "--help"]])(
    "%s %s shows examples and exits with 0",
    async (...args) => {
      const outcome = await run(...args.filter((argument) => argument !== undefined));
      expect(outcome.code).toBe(0);
      expect(outcome.stdout).toContain("Examples:");
    },
  );
});

describe("a secret that is mistyped", () => {
  it.each([
    ["serve", "--psk"],
    ["play", "--psk"],
    ["call", "--psk"],
    ["serve", "--user"],
    ["play", "--user"],
    ["answer", "--user"],
    ["serve", "--publish-user"],
  ])("is not repeated by %s %s, since what it prints may be logged", async (command, option) => {
    const secret = `0123 'hunter2' 4567`;
    const outcome = await run(command, option, option === "--psk" ? `viewer:${secret}` : secret);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain(`error: option '${option} <`);
    expect(outcome.stdout + outcome.stderr).not.toContain("hunter2");
  });
});

describe("a reader that goes", () => {
  it("ends the program without a word, as it ends others", async () => {
    const { child, ended } = start(["--help"]);
    child.stdout.destroy();
    expect(await ended).toMatchObject({ stderr: "" });
  });
});

describe("keygen psk", () => {
  it("prints a key in the form that --psk takes, another every time", async () => {
    const [one, two] = await Promise.all([run("keygen", "psk", "--id", "camera7"), run("keygen", "psk")]);
    expect(one?.stdout).toMatch(/^camera7:[0-9a-f]{64}\n$/);
    expect(two?.stdout).toMatch(/^default:[0-9a-f]{64}\n$/);
    expect(one?.stdout.split(":")[1]).not.toBe(two?.stdout.split(":")[1]);
  });
});

describe("serve and play", () => {
  it.each(["udp", "tcp"])("under a pre-shared key from a file, over %s, rekeyed, with a proven end", async (transport) => {
    const file = join(folder, `keys-${transport}.txt`);
    writeFileSync(file, `# who may watch\n\nsomebody:${KEY.slice(2)}00\n${PSK}\n`);
    const { url, server } = await serve("--psk-file", file, "--rekey", "0.4");
    const played = await run("play", url, "--psk", PSK, "--transport", transport, "--packets", "60", "--json");
    expect(played.code, played.stderr).toBe(0);
    expect(lastJson(played)).toMatchObject({
      packets: expect.any(Number),
      lost: 0,
      authenticationFailures: 0,
      replays: 0,
      suite: "AES_CM_128_HMAC_SHA1_80",
      keyedBy: "psk",
      mki: expect.stringMatching(/^[0-9a-f]{8}$/),
      teardownProof: "verified",
    });
    expect(played.stderr).toContain("rekeyed 1 stream");
    server.child.kill("SIGINT");
    const served = await server.ended;
    expect(served.code).toBe(0);
    expect(served.stderr).toContain("ended: teardown, proof verified");
    for (const text of [played.stdout, played.stderr, served.stdout, served.stderr]) expect(text).not.toContain(KEY);
  });

  it.each(["AES_CM_128_HMAC_SHA1_32", "AES_256_CM_HMAC_SHA1_80", "AEAD_AES_256_GCM"])("%s, other MKI lengths", async (suite) => {
    const { url } = await serve(
      "--psk",
      PSK,
      "--suite",
      suite,
      "--mki",
      suite.startsWith("AEAD") ? "0" : "2",
      "--rtp-profile",
      "RTP/SAVPF",
    );
    const played = await run("play", url, "--psk", PSK, "--packets", "10", "--json");
    expect(played.code, played.stderr).toBe(0);
    expect(lastJson(played)).toMatchObject({
      suite,
      lost: 0,
      mki: suite.startsWith("AEAD") ? null : expect.stringMatching(/^[0-9a-f]{4}$/),
    });
  });

  it("--export prints the keys and hands the packets on sealed; a format that cannot have them ends it", async () => {
    const { url } = await serve("--psk", PSK, "--suite", "AEAD_AES_128_GCM", "--rekey", "0.5");
    const socket = createSocket("udp4");
    const datagrams: Buffer[] = [];
    socket.on("message", (packet) => datagrams.push(packet));
    await new Promise<void>((done) => socket.bind(0, "127.0.0.1", done));
    onTestFinished(() => void socket.close());
    const target = `srtp://127.0.0.1:${socket.address().port}`;
    const common = ["play", url, "--psk", PSK, "--reveal"];
    const exported = await run(...common, "--export", "libsrtp", "--packets", "60", "--out", target);
    expect(exported.code, exported.stderr).toBe(0);
    const policies = exported.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as LibsrtpPolicy);
    expect(policies.length, "one per rekey").toBeGreaterThan(1);
    const receiver = createSrtpReceiver({
      policy: { suite: "AEAD_AES_128_GCM" },
      keys: policies.map(({ keys: [only] }) => {
        const octets = parseHex(only?.key ?? "");
        return { key: octets.subarray(0, 16), salt: octets.subarray(16), mki: parseHex(only?.mki_id ?? "") };
      }),
    });
    await expect.poll(() => datagrams.length).toBeGreaterThanOrEqual(60);
    const opened = datagrams.filter((packet) => receiver.unprotect(packet, new Uint8Array(packet.length)) > 0);
    expect(opened.length).toBeGreaterThanOrEqual(60);
    const refused = await run(...common, "--export", "ffmpeg", "--duration", "10", "--out", target);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toContain("[tools.export-suite]");
  });

  it.each(["239.255.88.1", "232.88.1.1"])("to the multicast group %s, several receivers, rekeyed", async (group) => {
    const port = await freePort();
    const options = ["--multicast", `${group}:${port}`, "--interface", "127.0.0.1", "--ttl", "0", "--rekey", "1"];
    const { url, server } = await serve("--path", "/group", "--psk", PSK, ...options);
    const listen = ["--transport", "multicast", "--interface", "127.0.0.1", "--psk", PSK, "--packets", "100", "--json"];
    const outcomes = await Promise.all([run("play", url, ...listen), run("play", url, ...listen)]);
    for (const outcome of outcomes) {
      expect(outcome.code, outcome.stderr).toBe(0);
      expect(outcome.stderr).toContain("rekeyed 1 stream");
      expect(lastJson(outcome)).toMatchObject({ lost: 0, authenticationFailures: 0, keyedBy: "psk", teardownProof: "verified" });
    }
    server.child.kill("SIGINT");
    expect((await server.ended).code).toBe(0);
  });

  it("NULL-keyed inside TLS, with RTSP authentication", async () => {
    const { cert, key } = makeSelfSigned();
    const [certFile, keyFile] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    writeFileSync(certFile, cert);
    writeFileSync(keyFile, key);
    const { url } = await serve("--tls-cert", certFile, "--tls-key", keyFile, "--profile", "onvif", "--user", "viewer:secret");
    expect(url).toMatch(/^rtsps:/);
    const flags = ["--profile", "onvif", "--packets", "10", "--json"];
    const played = await run("play", url, ...flags, "--ca", certFile, "--user", "viewer:secret");
    expect(played.code, played.stderr).toBe(0);
    expect(lastJson(played)).toMatchObject({ keyedBy: "null", lost: 0 });
    const refused = await run("play", url, ...flags, "--ca", certFile, "--user", "viewer:wrong");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/--user.*\[rtsp\.unauthorized\]$/m);
    const untrusted = await run("play", url, ...flags, "--user", "viewer:secret");
    expect(untrusted.code).toBe(1);
    expect(untrusted.stderr).toMatch(/--ca/);
  });

  it("by the key of the client, found by the ladder, renewed by the client; one key message or two", async () => {
    const { cert, key } = makeSelfSigned();
    const [certFile, keyFile] = [join(folder, "auto-cert.pem"), join(folder, "auto-key.pem")];
    writeFileSync(certFile, cert);
    writeFileSync(keyFile, key);
    const tls = ["--tls-cert", certFile, "--tls-key", keyFile];
    const flags = ["--profile", "auto", "--ca", certFile, "--packets", "60", "--json"];
    const axis = await serve(...tls, "--profile", "axis");
    const found = await run("play", axis.url, ...flags, "--rekey", "0.4");
    expect(found.code, found.stderr).toBe(0);
    expect(found.stderr).toContain("keying as towards onvif\nkeying as towards axis\n");
    expect(lastJson(found)).toMatchObject({
      profile: "axis",
      keyedBy: "null",
      lost: 0,
      mki: expect.stringMatching(/^[0-9a-f]{8}$/),
    });
    const both = await serve(...tls, "--profile", "auto", "--psk", PSK, "--acap");
    const [keyed, plain] = await Promise.all([run("play", both.url, ...flags, "--psk", PSK), run("play", both.url, ...flags)]);
    expect([keyed.code, plain.code], `${keyed.stderr}${plain.stderr}`).toEqual([0, 0]);
    expect(lastJson(keyed)).toMatchObject({ profile: "strict", keyedBy: "psk", lost: 0, teardownProof: "verified" });
    expect(lastJson(plain)).toMatchObject({ profile: "gstreamer", keyedBy: "null", lost: 0 });
    expect(lastJson(plain)).toMatchObject({ tolerances: expect.arrayContaining(["capability-without-negotiation"]) });
  });

  it("a wrong key, a foreign name and NULL keys in the clear are refused in one line that says what to do; the server serves the next", async () => {
    const { url, server } = await serve("--psk", PSK);
    const wrong = await run("play", url, "--psk", `viewer:${"ab".repeat(32)}`, "--packets", "5", "--json");
    expect(wrong.code).toBe(1);
    expect(JSON.parse(wrong.stdout)).toMatchObject({ error: { code: "mikey.authentication" } });
    expect(wrong.stderr).toMatch(/^watchword: MIKEY authentication failed - .*--psk.*\[mikey\.authentication\]$/m);
    const none = await run("play", url, "--packets", "5");
    expect(none.code).toBe(1);
    const good = await run("play", url, "--psk", PSK, "--packets", "5", "--json");
    expect(good.code, good.stderr).toBe(0);
    server.child.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);

    const open = await serve("--profile", "gstreamer", "--allow-null-keying");
    const careful = await run("play", open.url, "--profile", "gstreamer", "--packets", "5");
    expect(careful.code).toBe(1);
    expect(careful.stderr).toContain("--allow-null-keying");
    const bold = await run("play", open.url, "--profile", "gstreamer", "--allow-null-keying", "--packets", "5", "--json");
    expect(lastJson(bold)).toMatchObject({ keyedBy: "null", teardownProof: "absent" });
    const keyed = await run("play", open.url, "--psk", PSK, "--packets", "5");
    expect(keyed.code, "who has a key does not take an unprotected one").toBe(1);
  });

  it("records to an rtpdump file; Ctrl-C of the player tears down properly", async () => {
    const { url, server } = await serve("--psk", PSK);
    const player = start(["play", url, "--psk", PSK, "--out", "tone.rtpdump", "--json"]);
    await recorded("tone.rtpdump");
    player.child.kill("SIGINT");
    const played = await player.ended;
    expect(played.code, played.stderr).toBe(0);
    expect(lastJson(played)).toMatchObject({ teardownProof: "verified" });
    expect(readFileSync(join(folder, "tone.rtpdump")).subarray(0, 12).toString("latin1")).toBe("#!rtpplay1.0");
    server.child.kill("SIGINT");
    expect((await server.ended).stderr).toContain("proof verified");
  });

  it("ends where the description beside the plain RTP cannot be written", async () => {
    const { url } = await serve("--psk", PSK);
    mkdirSync(join(folder, "watchword-47110.sdp"));
    const played = await run("play", url, "--psk", PSK, "--out", "rtp://127.0.0.1:47110");
    expect(played).toMatchObject({ code: 1, stderr: expect.stringContaining("[node.file]") });
  });

  it("a server that dies mid-stream ends the player with a clear error", async () => {
    const { url, server } = await serve("--psk", PSK);
    const player = start(["play", url, "--psk", PSK, "--transport", "tcp", "--json", "--out", "dying.rtpdump"]);
    await recorded("dying.rtpdump");
    server.child.kill("SIGKILL");
    const played = await player.ended;
    expect(played.code).toBe(1);
    expect(played.stderr).toMatch(/^watchword: .+\[rtsp\.[a-z-]+\]$/m);
  });

  it("refuses more sessions than --max-sessions, and ends after --duration", async () => {
    const { url, server } = await serve("--psk", PSK, "--max-sessions", "1", "--duration", "8");
    const first = start(["play", url, "--psk", PSK, "--out", "first.rtpdump"]);
    await recorded("first.rtpdump");
    const second = await run("play", url, "--psk", PSK, "--packets", "5");
    expect(second.code).toBe(1);
    expect(second.stderr).toContain("453");
    first.child.kill("SIGINT");
    expect((await first.ended).code).toBe(0);
    expect((await server.ended).code).toBe(0);
  });

  it("says which address is in use, and where nothing listens", async () => {
    const busy = createServer();
    await new Promise<void>((done) => busy.listen(0, "127.0.0.1", done));
    onTestFinished(() => {
      busy.close();
    });
    const { port } = busy.address() as { port: number };
    const taken = await run("serve", "--listen", `127.0.0.1:${port}`, "--psk", PSK);
    expect(taken.code).toBe(1);
    expect(taken.stderr).toMatch(/in use.*\[node\.address-in-use\]/);
    const nothing = await run("play", "rtsp://127.0.0.1:9/", "--psk", PSK);
    expect(nothing.code).toBe(1);
    expect(nothing.stderr).toMatch(/\[node\.connection-refused\]/);
    expect((await run("play", "http://127.0.0.1/", "--psk", PSK)).code).toBe(1);
  });
});

describe("inspect", () => {
  const offer =
    "AQAFgM0XflABAAAAAAAAAAAAAAsAyONQ6gAAAAAGEEoo2pee4hp2UaDX8ZE22YwKAAAPZG9uYWxkQGR1Y2suY29tAQAAAAAAAQAk0JKpgaVkDaawi9whVBtBt0KZ14ymNuu62+Nv3ozPLygwK/GbAV9iemnGUIZ19fWQUOSrzKTAv9zV";

  it("reads the offer of RFC 4567 §5.1 from base64, from SDP, and as JSON", async () => {
    writeFileSync(
      join(folder, "offer.sdp"),
      `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=key-mgmt:mikey ${offer}\r\nm=audio 9 RTP/SAVP 0\r\n`,
    );
    const [plain, json] = await Promise.all([run("inspect", offer), run("inspect", "offer.sdp", "--json")]);
    expect(plain?.code, plain?.stderr).toBe(0);
    expect(plain?.stdout).toContain("donald@duck.com");
    const [entry] = JSON.parse(json?.stdout as string) as Record<string, unknown>[];
    expect(entry).toMatchObject({
      valid: true,
      where: expect.any(String),
      octets: expect.any(String),
      problems: expect.any(Array),
    });
    const damaged = await run("inspect", `${offer.slice(0, 60)}AAAA`);
    expect(damaged.code).toBe(1);
  });
});

describe("npm start", () => {
  it("shows the main job and ends by itself with --once", async () => {
    const outcome = await run("demo", "--once");
    expect(outcome.code, outcome.stderr).toBe(0);
    for (const word of [
      "gcks",
      "JOIN",
      "TONE",
      "EXPEL",
      "LEAVE",
      "END",
      "DESCRIBE",
      "SETUP",
      "PLAY",
      "REKEY",
      "TEARDOWN",
      "verified",
    ])
      expect(outcome.stdout).toContain(word);
  });
});
