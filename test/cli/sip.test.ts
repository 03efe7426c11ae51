import { createSocket } from "node:dgram";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { parseHex } from "../../src/bytes/index.js";
import { systemClock, systemTimers } from "../../src/node/index.js";
import { type CallEnd, nodeSipSockets, startSipUserAgent } from "../../src/node/sip/index.js";
import { createPskSipKeying } from "../../src/sip/index.js";
import { makeSelfSigned } from "../node/self-signed.js";
import { lossySockets } from "../node/sip/support.js";
import { spoiled } from "../sip/support.js";
import { createProgram, MAIN, type Outcome, type Running } from "./program.js";

const { folder, start, run } = createProgram("sip");

const KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const PSK = `default:${KEY}`;

async function answer(...args: readonly string[]): Promise<Running & { readonly uri: string }> {
  const running = start(["answer", "--listen", "127.0.0.1:0", ...args]);
  const [, uri = ""] = await running.match(/^answering (sip:\S+)$/m);
  return { ...running, uri };
}

interface Report {
  readonly packets: number;
  readonly lost: number;
  readonly sent: number;
  readonly authenticationFailures: number;
  readonly suite: string;
  readonly keyedBy: string;
  readonly rekeys: number;
  readonly fingerprint: string;
  readonly endedBy: string;
  readonly teardownProof: string;
}

function reportsOf({ code, stdout, stderr }: Outcome): Report[] {
  expect(code, stderr).toBe(0);
  return stdout
    .trim()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Report);
}

describe("watchword call and answer", () => {
  it("talk both ways, get new keys, prove the end to each other, and record", async () => {
    const answering = await answer("--psk", PSK, "--calls", "1", "--json", "--out", "in.rtpdump");
    const calling = run("call", answering.uri, "--psk", PSK, "--duration", "3", "--rekey", "1", "--json", "--stats");
    const [called] = reportsOf(await calling) as [Report];
    const [answered] = reportsOf(await answering.ended) as [Report];
    const both = {
      lost: 0,
      authenticationFailures: 0,
      suite: "AES_CM_128_HMAC_SHA1_80",
      keyedBy: "psk",
      teardownProof: "verified",
    };
    expect(called).toMatchObject({ ...both, endedBy: "local", remote: answering.uri });
    expect(answered).toMatchObject({ ...both, endedBy: "remote", fingerprint: called.fingerprint, rekeys: called.rekeys });
    expect(called.rekeys).toBeGreaterThan(0);
    expect(called.packets).toBeGreaterThan(50);
    expect(answered.packets).toBeGreaterThan(50);
    expect(readFileSync(join(folder, "in.rtpdump")).subarray(0, 12).toString()).toBe("#!rtpplay1.0");
    expect(existsSync(join(folder, "in-2.rtpdump"))).toBe(false);
  });

  it.each(["tcp", "tls"])("talk over %s", async (transport) => {
    const { cert, key } = makeSelfSigned();
    writeFileSync(join(folder, "cert.pem"), cert);
    writeFileSync(join(folder, "key.pem"), key);
    const tls = transport === "tls" ? ["--tls-cert", "cert.pem", "--tls-key", "key.pem"] : [];
    const answering = await answer("--transport", transport, "--psk", PSK, "--calls", "1", ...tls);
    expect(answering.uri).toContain(`;transport=${transport}`);
    // The certificate is for 127.0.0.1.
    const trust = transport === "tls" ? ["--ca", "cert.pem"] : [];
    const limit = ["--packets", "20", "--rekey", "0.1", "--json"];
    const outcome = await run("call", answering.uri, "--transport", transport, "--psk", PSK, ...limit, ...trust);
    expect(reportsOf(outcome)).toMatchObject([{ teardownProof: "verified" }]);
    expect((await answering.ended).code).toBe(0);
  });

  it.each([
    [
      "--transport tls has a port of its own",
      ["sip:bob@127.0.0.1", "--transport", "tls"],
      /^watchword: connect to 127\.0\.0\.1:5061: /,
    ],
    [
      "a SIP server by IPv6",
      ["sip:bob@example.org", "--transport", "ws", "--proxy", "[::1]:9"],
      /^watchword: connect to ws:\/\/\[::1\]:9: /,
    ],
  ])("%s", async (_what, args, said) => {
    const outcome = await run("call", ...args, "--psk", PSK);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(said);
  });

  it("end where the description beside the plain RTP cannot be written", async () => {
    const answering = await answer("--psk", PSK, "--calls", "1");
    mkdirSync(join(folder, "watchword-47120.sdp"));
    const outcome = await run("call", answering.uri, "--psk", PSK, "--packets", "10", "--out", "rtp://127.0.0.1:47120");
    expect(outcome).toMatchObject({ code: 0, stderr: expect.stringContaining("[node.file]") });
    expect((await answering.ended).code).toBe(0);
  });

  it("is hung up by whoever was called, over the connection of a caller that listens nowhere", async () => {
    const { cert, key } = makeSelfSigned();
    writeFileSync(join(folder, "own.pem"), cert);
    writeFileSync(join(folder, "own-key.pem"), key);
    const answering = await answer(
      "--transport",
      "tls",
      "--psk",
      PSK,
      "--tls-cert",
      "own.pem",
      "--tls-key",
      "own-key.pem",
      "--duration",
      "6",
    );
    const outcome = await run("call", answering.uri, "--transport", "tls", "--psk", PSK, "--ca", "own.pem", "--json");
    expect(reportsOf(outcome)).toMatchObject([{ endedBy: "remote", teardownProof: "verified" }]);
    expect((await answering.ended).code).toBe(0);
  });

  it("hand the plain RTP of an encoder on to a player", async () => {
    const [source, target] = [createSocket("udp4"), createSocket("udp4")];
    onTestFinished(() => {
      source.close();
      target.close();
    });
    const port = await new Promise<number>((done) => target.bind(0, "127.0.0.1", () => done(target.address().port)));
    const received: Buffer[] = [];
    target.on("message", (packet) => void received.push(packet));
    const encoder = 20_000 + 2 * Math.floor(Math.random() * 5000);
    writeFileSync(
      join(folder, "encoder.sdp"),
      `v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio ${encoder} RTP/AVP 8\r\n`,
    );
    const answering = await answer("--psk", PSK, "--source", "none", "--out", `rtp://127.0.0.1:${port}`, "--calls", "1");
    const calling = start(["call", answering.uri, "--psk", PSK, "--source", "rtp", "--sdp", "encoder.sdp", "--duration", "4"]);
    await calling.match(/^call with /m);
    let sequence = 0;
    const timer = setInterval(() => {
      const packet = Buffer.alloc(172, 0x2a);
      packet.set([0x80, 8, 0, sequence++, 0, 0, 0, 0, 1, 2, 3, 4]);
      source.send(packet, encoder, "127.0.0.1");
    }, 20);
    onTestFinished(() => clearInterval(timer));
    await expect.poll(() => received.length, { timeout: 10_000 }).toBeGreaterThan(20);
    expect(received.every((packet) => packet.length === 172 && packet[1] === 8 && packet[12] === 0x2a)).toBe(true);
    expect(existsSync(join(folder, `watchword-${port}.sdp`))).toBe(true);
    expect((await calling.ended).code).toBe(0);
    expect((await answering.ended).code).toBe(0);
  });

  it("say goodbye with proof on Ctrl-C, at either end", async () => {
    const answering = await answer("--psk", PSK, "--json");
    const first = start(["call", answering.uri, "--psk", PSK, "--json"]);
    await first.match(/^call with /m);
    first.child.kill("SIGINT");
    expect(reportsOf(await first.ended)).toMatchObject([{ endedBy: "local", teardownProof: "verified" }]);
    await answering.match(/ended by remote, proven and acknowledged/);
    const second = start(["call", answering.uri, "--psk", PSK, "--json"]);
    await second.match(/^call with /m);
    answering.child.kill("SIGINT");
    expect(reportsOf(await second.ended)).toMatchObject([{ endedBy: "remote", teardownProof: "verified" }]);
    expect(reportsOf(await answering.ended)).toMatchObject([
      { endedBy: "remote" },
      { endedBy: "local", teardownProof: "verified" },
    ]);
  });

  it("take one call at a time", async () => {
    const answering = await answer("--psk", PSK);
    const first = start(["call", answering.uri, "--psk", PSK]);
    await first.match(/^call with /m);
    const { code, stderr } = await run("call", answering.uri, "--psk", PSK);
    expect(code).toBe(1);
    expect(stderr).toMatch(/486.* - the other party is busy \[node\.sip-status-486\]\n$/);
    first.child.kill("SIGINT");
    expect((await first.ended).code).toBe(0);
  });

  it("say in one line what went wrong and what to do", async () => {
    const answering = await answer("--psk", PSK);
    const refused = await run("call", answering.uri, "--psk", `default:${KEY.replace("00", "ff")}`);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^watchword: .*488.*check --psk.* \[node\.sip-status-488\]\n$/);
    await answering.match(/refused a call from sip:\S+: .*\[mikey\.authentication\]/);
    const nobody = await run("call", answering.uri.replace("watchword@", "nobody@"), "--psk", PSK);
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining("[node.sip-status-404]") });
    const stranger = await run("call", answering.uri, "--psk", `sip:somebody@example.org:${KEY}`);
    expect(stranger).toMatchObject({ code: 1, stderr: expect.stringContaining("[sip.credential]") });
    const closed = await run("call", "sip:bob@127.0.0.1:1", "--transport", "tcp", "--proxy", "127.0.0.1:1", "--psk", PSK);
    expect(closed).toMatchObject({ code: 1, stderr: expect.stringContaining("[node.connection-refused]") });
  });

  it("offer SRTP as a capability where that is asked for", async () => {
    const answering = await answer("--psk", PSK, "--calls", "1", "--json");
    const outcome = await run("call", answering.uri, "--psk", PSK, "--acap", "--packets", "20", "--rekey", "0.2", "--json");
    expect(reportsOf(outcome)).toMatchObject([{ keyedBy: "psk", endedBy: "local", teardownProof: "verified" }]);
    expect(reportsOf(await answering.ended)).toMatchObject([{ endedBy: "remote", teardownProof: "verified" }]);
  });

  it("hang up where the other party refuses new keys, or keep the old ones", async () => {
    const ends: CallEnd[] = [];
    const damage = (message: string): string => (/^INVITE [\s\S]*CSeq: [^1]\d* /.test(message) ? spoiled(message) : message);
    const agent = await startSipUserAgent({
      address: "sip:bob@127.0.0.1:0",
      transport: { transport: "udp", sockets: lossySockets(nodeSipSockets(), () => false, [], damage) },
      keying: (uri) => createPskSipKeying({ uri, keys: { find: () => parseHex(KEY) }, clock: systemClock, timers: systemTimers }),
      onCall: (ringing) => void ringing.accept({}).then((call) => call.ended.then((end) => ends.push(end))),
    });
    onTestFinished(() => agent.close());
    const flags = ["--psk", PSK, "--rekey", "0.3", "--duration", "2", "--json"];
    const { code, stdout, stderr } = await run("call", agent.uri, ...flags);
    expect(code, stderr).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      endedBy: "failure",
      teardownProof: "verified",
      rekeys: 0,
      error: { code: "node.sip-status-488", message: expect.stringContaining("takes no new keys") },
    });
    expect(stderr).toMatch(/takes no new keys.*\[node\.sip-status-488\]\n$/);
    expect(reportsOf(await run("call", agent.uri, ...flags, "--keep-keys"))).toMatchObject([
      { endedBy: "local", teardownProof: "verified", rekeys: 0 },
    ]);
    await expect
      .poll(() => ends)
      .toMatchObject([
        { by: "remote", proof: "verified" },
        { by: "remote", proof: "verified" },
      ]);
  });

  it("find a user by address, by name, or for anybody", async () => {
    const keys = [`someone:${KEY.replace("00", "ee")}`, `watchword:${KEY}`].flatMap((psk) => ["--psk", psk]);
    const answering = await answer(...keys, "--calls", "2");
    for (const psk of [`${answering.uri}:${KEY}`, `watchword:${KEY}`]) {
      const { code, stderr } = await run("call", answering.uri, "--psk", psk, "--packets", "1");
      expect(code, stderr).toBe(0);
    }
    expect((await answering.ended).code).toBe(0);
  });

  it.each([
    [["call"], "missing required argument"],
    [["call", "bob", "--psk", PSK], "expected a SIP address"],
    [["call", "sip:bob@127.0.0.1"], "--psk"],
    [["call", "sip:bob@127.0.0.1", "--psk", "x"], "ID:HEX"],
    [["call", "sip:bob@127.0.0.1", "--psk", PSK, "--transport", "ws"], "--proxy"],
    [["call", "sip:bob@127.0.0.1", "--psk", PSK, "--transport", "carrier-pigeon"], "udp, tcp, tls or ws"],
    [["call", "sip:bob@127.0.0.1", "--psk", PSK, "--proxy", "ws://127.0.0.1:80"], "--transport ws"],
    [["call", "sip:bob@127.0.0.1", "--psk", PSK, "--source", "rtp"], "--sdp"],
    [["call", "sip:bob@127.0.0.1", "--psk", PSK, "--out", "x"], ".rtpdump"],
    [["answer", "--psk", PSK, "--register"], "--proxy"],
    [["answer", "--psk", PSK, "--tls-cert", MAIN], "--tls-key"],
    [["answer", "--psk", PSK, "--calls", "0"], "whole number"],
  ])("%j is wrong usage", async (args, text) => {
    const { code, stderr } = await run(...args);
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(text);
  });
});
