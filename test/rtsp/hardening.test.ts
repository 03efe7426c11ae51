import { describe, expect, it } from "vitest";
import { concatBytes, utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import type { Stream } from "../../src/io/index.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  createMikeyServerKeying,
  createPskDirectory,
  createRtspParser,
  encodeFrame,
  header,
  identityOf,
  type RtspResponse,
  type ServerKeying,
} from "../../src/rtsp/index.js";
import { createSetting, type Setting, type SettingOptions } from "./support.js";

const R = "rtsp://server/s";
const TCP = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const udp = (port: number): string => `Transport: RTP/AVP;unicast;client_port=${port}-${port + 1}\r\n`;
/** A request that must never be answered: it stands inside something else. */
const HIDDEN = `TEARDOWN ${R} RTSP/1.0\r\nCSeq: 666\r\n\r\n`;

interface Attack {
  readonly stream: Stream;
  readonly responses: RtspResponse[];
  closed: boolean;
  send(...parts: readonly (string | Uint8Array)[]): Promise<void>;
}

async function attack(setting: Setting, from = "mallory"): Promise<Attack> {
  const stream = await setting.dial(from);
  const parser = createRtspParser();
  const attacker: Attack = {
    stream,
    responses: [],
    closed: false,
    send: async (...parts) => {
      for (const part of parts) stream.write(typeof part === "string" ? utf8(part) : part);
      await setting.network.advance(10);
    },
  };
  stream.onData = (octets) =>
    parser.push(octets, (item) => {
      if (item.kind === "response") attacker.responses.push(item);
    });
  stream.onClose = () => {
    attacker.closed = true;
  };
  return attacker;
}

/** The next client is served, and nothing of the attack is left. */
async function expectUnharmed(setting: Setting): Promise<void> {
  const { client, run, network, server, source } = setting;
  const viewer = await client({ host: "viewer" });
  await run(viewer.describe());
  await run(viewer.setup(0, "tcp"));
  await run(viewer.play());
  source.rtp(0, utf8("picture"));
  await network.advance(10);
  expect(viewer.received.rtp).toHaveLength(1);
  await run(viewer.teardown());
  await network.advance(70_000);
  expect([server.sessions.length, server.connections]).toEqual([0, 0]);
  expect(network.host("server").open).toEqual({ datagrams: 0, streams: 0 });
}

const statuses = ({ responses }: Attack): number[] => responses.map(({ status }) => status);
const cseqs = ({ responses }: Attack): (string | undefined)[] => responses.map((response) => header(response, "CSeq"));

describe("framing that two readers could read in two ways", () => {
  const options = (...lines: readonly string[]): string => `OPTIONS ${R} RTSP/1.0\r\nCSeq: 1\r\n${lines.join("\r\n")}\r\n\r\n`;
  const body = `${HIDDEN}`;
  it.each<[name: string, octets: string | Uint8Array, status: readonly number[]]>([
    ["two Content-Lengths that differ", options("Content-Length: 0", `Content-Length: ${body.length}`) + body, [400]],
    ["two that differ in their zeros", options("Content-Length: 5", "Content-Length: 05") + body, [400]],
    ["a list of them", options("Content-Length: 0, 53") + body, [400]],
    ["a negative one", options("Content-Length: -1") + body, [400]],
    ["one with a sign", options("Content-Length: +5") + body, [400]],
    ["a hexadecimal one", options("Content-Length: 0x10") + body, [400]],
    ["an empty one", options("Content-Length:") + body, [400]],
    ["a fraction", options("Content-Length: 1.5") + body, [400]],
    ["a huge one", options("Content-Length: 9999999999") + body, [413]],
    ["one beyond all numbers", options(`Content-Length: ${"9".repeat(400)}`) + body, [400]],
    ["one with digits of another script", options("Content-Length: ٣") + body, [400]],
    ["one folded onto the next line", options("Content-Length: 5\r\n 3") + body, [400]],
    ["one before a space and a colon", options("Content-Length : 53") + body, [400]],
    ["one before a tab and a colon", options("Content-Length\t: 53") + body, [400]],
    ["a chunked body", `${options("Transfer-Encoding: chunked")}0\r\n\r\n${HIDDEN}`, [400]],
    ["a chunked body beside a length", `${options("Content-Length: 5", "Transfer-Encoding: chunked")}0\r\n\r\n${HIDDEN}`, [400]],
    ["a chunked body after a space", `${options("Transfer-Encoding : chunked")}0\r\n\r\n${HIDDEN}`, [400]],
    ["a carriage return alone in a value", options(`X: a\r\rTEARDOWN ${R} RTSP/1.0\rCSeq: 666`), [400]],
    ["a carriage return alone before a header", options("X: a\rContent-Length: 53") + body, [400]],
    ["a zero octet in a value", options("X: a\0b"), [400]],
    ["a zero octet in a name", options("Content\0-Length: 53") + body, [400]],
    ["a zero octet in a folded line", options("X: a\r\n \0b"), [400]],
    ["a vertical tab before the colon", options("Content-Length\v: 53") + body, [400]],
    ["a line that continues nothing", `OPTIONS ${R} RTSP/1.0\r\n X: y\r\nCSeq: 1\r\n\r\n`, [400]],
    ["a line without a colon", options("Content-Length 53") + body, [400]],
    ["an empty name", options(": 53") + body, [400]],
    ["a space in the URI", `OPTIONS ${R} x RTSP/1.0\r\nCSeq: 1\r\n\r\n`, [400]],
    ["a control character in the URI", `OPTIONS ${R}\x7f RTSP/1.0\r\nCSeq: 1\r\n\r\n`, [400]],
    ["a request of HTTP", "GET / HTTP/1.1\r\nHost: server\r\n\r\n", [400]],
    ["a TLS handshake", concatBytes(Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3), new Uint8Array(40), utf8("\n\n")), [400]],
    ["a URI without end", `OPTIONS rtsp://server/${"a".repeat(5000)} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, [414]],
    ["a header of 64 KiB", options(`X: ${"a".repeat(65_536)}`), [400]],
    ["a thousand headers", options(...Array.from({ length: 1000 }, (_, n) => `X-${n}: y`)), [400]],
    ["a header that never ends", `OPTIONS ${R} RTSP/1.0\r\nX: ${"a".repeat(40_000)}`, [400]],
    ["a method that never ends", "A".repeat(40_000), [400]],
  ])("%s: one refusal, and nothing behind it is read", async (_name, octets, expected) => {
    const setting = createSetting();
    const attacker = await attack(setting);
    await attacker.send(octets);
    await attacker.send(HIDDEN);
    await setting.network.advance(100);
    expect(statuses(attacker)).toEqual(expected);
    expect(cseqs(attacker)).not.toContain("666");
    expect(attacker.closed).toBe(true);
    await expectUnharmed(setting);
  });

  it.each<[name: string, octets: Uint8Array, answered: readonly string[]]>([
    ["the same Content-Length twice", utf8(`${options("Content-Length: 3", "Content-Length: 3")}abc${options()}`), ["1", "1"]],
    [
      "a request inside a body",
      utf8(`SET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: ${body.length}\r\n\r\n${body}${options()}`),
      ["1", "1"],
    ],
    [
      "a frame inside a body",
      concatBytes(
        utf8(`SET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\n`),
        encodeFrame(0, utf8("x")),
        utf8(options()),
      ),
      ["1", "1"],
    ],
    ["a request inside a frame", concatBytes(encodeFrame(0, utf8(HIDDEN)), utf8(options())), ["1"]],
    ["frames on channels that nobody opened", concatBytes(encodeFrame(255, new Uint8Array(65_535)), utf8(options())), ["1"]],
    ["an empty frame", concatBytes(encodeFrame(0, new Uint8Array(0)), utf8(options())), ["1"]],
    [
      "responses to questions that were not asked",
      utf8(`RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nRTSP/1.0 100 Continue\r\n\r\n${options()}`),
      ["1"],
    ],
    ["empty lines before a request", utf8(`${"\r\n".repeat(500)}${options()}`), ["1"]],
    ["lines that end with LF alone", utf8(`OPTIONS ${R} RTSP/1.0\nCSeq: 1\n\n${options()}`), ["1", "1"]],
    ["a folded value", utf8(`OPTIONS ${R} RTSP/1.0\r\nX: a\r\n b\r\nCSeq: 1\r\n\r\n${options()}`), ["1", "1"]],
  ])("%s: is read in one way, wherever it is cut", async (_name, octets, answered) => {
    for (const size of [octets.length, 7, 1]) {
      const setting = createSetting();
      const attacker = await attack(setting);
      // Cut at most in a few hundred places: long frames repeat themselves.
      const step = Math.max(size, Math.ceil(octets.length / 400));
      for (let at = 0; at < octets.length; at += step) attacker.stream.write(octets.slice(at, at + step));
      await setting.network.advance(100);
      expect(cseqs(attacker)).toEqual(answered);
      expect(attacker.closed).toBe(false);
      attacker.stream.destroy();
      await expectUnharmed(setting);
    }
  });
});

describe("floods", () => {
  it("of 100 000 pipelined requests end the connection, not the server", async () => {
    const setting = createSetting();
    const attacker = await attack(setting);
    const request = utf8(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`);
    const thousand = new Uint8Array(1000 * request.length);
    for (let at = 0; at < thousand.length; at += request.length) thousand.set(request, at);
    for (let sent = 0; sent < 100; sent++) attacker.stream.write(thousand);
    await setting.network.advance(100);
    expect(statuses(attacker).length).toBeLessThan(100);
    expect(statuses(attacker)).toContain(400);
    expect(attacker.closed).toBe(true);
    await expectUnharmed(setting);
  });

  it("of connections that say nothing make room for one that does", async () => {
    const setting = createSetting({ server: { maxConnections: 20 } });
    const { network, server } = setting;
    const silent: Attack[] = [];
    for (let index = 0; index < 20; index++) silent.push(await attack(setting));
    await network.advance(1500);
    for (let index = 0; index < 5; index++) silent.push(await attack(setting));
    expect(server.connections).toBe(20);
    expect(silent.slice(0, 5).every(({ closed }) => closed)).toBe(true);
    // Connections of this very second stay: who comes next waits for its turn.
    await network.advance(500);
    await expectUnharmed(setting);
  });

  it("of connections cannot push out one that holds a session", async () => {
    const setting = createSetting({ server: { maxConnections: 3, sessionTimeout: 1000 } });
    const viewer = await attack(setting, "viewer");
    await viewer.send(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`);
    for (let index = 0; index < 10; index++) {
      await attack(setting);
      await setting.network.advance(1100);
    }
    expect(viewer.closed).toBe(false);
    expect(setting.server.connections).toBe(3);
    expect(setting.server.sessions).toHaveLength(1);
  });

  it("of SETUP are refused with 453 at the limit of a connection and of the server", async () => {
    const setting = createSetting({ server: { maxSessions: 5, limits: { maxSessionsPerConnection: 3 } } });
    const { network, server } = setting;
    const first = await attack(setting);
    for (let n = 0; n < 5; n++) await first.send(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: ${n}\r\n${udp(5000 + 2 * n)}\r\n`);
    expect(statuses(first)).toEqual([200, 200, 200, 453, 453]);
    const second = await attack(setting);
    for (let n = 0; n < 4; n++) await second.send(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: ${n}\r\n${udp(6000 + 2 * n)}\r\n`);
    expect(statuses(second)).toEqual([200, 200, 453, 453]);
    expect(server.sessions).toHaveLength(5);
    // Never played and left alone: such sessions do not wait for their time.
    first.stream.destroy();
    second.stream.destroy();
    await network.advance(12_000);
    expect(server.sessions).toHaveLength(0);
    await expectUnharmed(setting);
  });

  it("of DESCRIBE hold keys for one description a connection, and not for ever", async () => {
    let made = 0;
    let dropped = 0;
    let slow = false;
    const setting = createSetting((network) => ({
      presentation: { profile: "RTP/SAVP", keying: counting(keying(network), network) },
    }));
    function counting(inner: ServerKeying, { timers }: Setting["network"]): ServerKeying {
      return {
        ...inner,
        offer: async (stream, peer) => {
          const offer = await inner.offer(stream, peer);
          if (offer === undefined) return undefined;
          made++;
          if (slow)
            await new Promise<void>((resolve) => {
              timers.after(50, resolve);
            });
          return {
            ...offer,
            abandon: () => {
              dropped++;
              offer.abandon();
            },
          };
        },
      };
    }
    const attacker = await attack(setting);
    for (let n = 0; n < 200; n++) {
      await attacker.send(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: ${n}\r\n\r\n`);
      expect(made - dropped).toBe(1);
    }
    expect(made).toBe(200);
    await setting.network.advance(70_000);
    expect(made - dropped).toBe(0);
    expect(attacker.closed).toBe(true);
    // Nor for who has gone while they were made.
    slow = true;
    const gone = await attack(setting);
    await gone.send(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`);
    gone.stream.destroy();
    await setting.network.advance(100);
    expect([made, dropped]).toEqual([201, 201]);
  });

  it("of TEARDOWN with false proofs for sessions of others do nothing", async () => {
    const setting = createSetting();
    const viewer = await attack(setting, "viewer");
    await viewer.send(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`);
    const session = header(viewer.responses[0] as RtspResponse, "Session")?.split(";")[0] ?? "";
    const attacker = await attack(setting);
    for (let n = 0; n < 300; n++) {
      const id = n % 2 === 0 ? session : n.toString(16).padStart(32, "0");
      await attacker.send(
        `TEARDOWN ${R} RTSP/1.0\r\nCSeq: ${n}\r\nSession: ${id}\r\nKeyMgmt: prot=mikey;uri="${R}";data="AfMAAAAAAAAAAAAA"\r\n\r\n`,
      );
    }
    expect(new Set(statuses(attacker))).toEqual(new Set([454]));
    expect(setting.server.sessions).toHaveLength(1);
  });
});

function keying(network: Setting["network"]): ServerKeying {
  const media = createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile("strict"),
    requirePsk: true,
    identity: identityOf("server"),
  });
  const directory = createPskDirectory([["viewer", new Uint8Array(16).fill(7)]]);
  return createMikeyServerKeying({ keying: media, policy: { suite: "AES_CM_128_HMAC_SHA1_80" }, directory });
}

describe("slowness", () => {
  const slow: SettingOptions = { server: { limits: { messageTimeout: 5000, idleTimeout: 60_000 }, sessionTimeout: 600 } };

  it.each<[name: string, begin: string | Uint8Array]>([
    ["headers", `OPTIONS ${R} RTSP/1.0\r\nX: `],
    ["a body", `SET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 7\r\nContent-Length: 1000\r\n\r\n`],
    ["a frame", Uint8Array.of(0x24, 0, 0xff, 0xff)],
  ])("of %s is cut off with 408, on a connection with a session too", async (_name, begin) => {
    for (const session of [false, true]) {
      const setting = createSetting(slow);
      const attacker = await attack(setting);
      if (session) await attacker.send(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`);
      attacker.responses.length = 0;
      await attacker.send(begin);
      for (let second = 0; second < 10; second++) {
        await attacker.send("a");
        await setting.network.advance(1000);
      }
      expect(statuses(attacker)).toEqual([408]);
      expect(attacker.closed).toBe(true);
      await expectUnharmed(setting);
    }
  });

  it("is not what a busy client has, whose frames are always cut", async () => {
    const setting = createSetting(slow);
    const busy = await attack(setting);
    await busy.send(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`);
    const frame = encodeFrame(1, new Uint8Array(100));
    busy.stream.write(frame.slice(0, 50));
    for (let n = 0; n < 200; n++) {
      await busy.send(concatBytes(frame.slice(50), frame.slice(0, 50)));
      await setting.network.advance(90);
    }
    expect(busy.closed).toBe(false);
    expect(setting.server.sessions).toHaveLength(1);
  });

  it("of a reader without a session ends early", async () => {
    const setting = createSetting({ network: { streamWindow: 1024 }, server: { limits: { closeIdleAbove: 8192 } } });
    const stream = await setting.dial("mallory");
    for (let n = 0; n < 200; n++) {
      stream.write(utf8(`OPTIONS ${R} RTSP/1.0\r\nCSeq: ${n}\r\n\r\n`));
      await setting.network.advance(5);
    }
    expect(setting.server.connections).toBe(0);
    await expectUnharmed(setting);
  });
});
