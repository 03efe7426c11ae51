import { describe, expect, it } from "vitest";
import { formatBase64, utf8, utf8Text } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import type { Stream } from "../../src/io/index.js";
import { createInitiator, decodeMessage, encodeMessage } from "../../src/mikey/index.js";
import { type PeerProfile, type PeerProfileName, peerProfile, peerProfileNames } from "../../src/peers/index.js";
import { AES80, clientKeying, PSK, peerSetting, playing } from "./keyed-support.js";
import { H264, PCMU, payloads, type Setting } from "./support.js";

/** Everything that was said in text. */
function listen(setting: Setting): string[] {
  const said: string[] = [];
  setting.network.onTraffic = ({ kind, octets }) => {
    if (kind !== "datagram") said.push(utf8Text(octets) ?? "");
  };
  return said;
}

/** Changes what a stream of a client brings (of the server), or takes away (of the player). */
function rewrite(stream: Stream, by: "player" | "server", change: (text: string) => string): void {
  const changed = (octets: Uint8Array): Uint8Array => utf8(change(utf8Text(octets) ?? ""));
  const { write } = stream;
  if (by === "player") stream.write = (octets) => write.call(stream, changed(octets));
  const property = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(stream), "onData");
  if (by === "player") return;
  Object.defineProperty(stream, "onData", {
    set: (callback: Stream["onData"]) =>
      property?.set?.call(stream, callback && ((octets: Uint8Array) => callback(changed(octets)))),
  });
}

const CLIENT_MAKES: readonly PeerProfileName[] = ["axis", "genetec", "hanwha"];
const SERVER_MAKES: readonly PeerProfileName[] = ["strict", "onvif"];
const NEVER = peerProfileNames.filter((name) => peerProfile(name).nullRekey === "never");

const FORMS: Readonly<Record<PeerProfile["rekeyForm"], RegExp>> = {
  header: /^SET_PARAMETER [\s\S]*\r\nKeyMgmt: prot=mikey;uri="rtsps:/,
  mikey: /^SET_PARAMETER [\s\S]*\r\nContent-Type: text\/parameters\r\n[\s\S]*\r\n\r\nmikey: [A-Za-z0-9+/=]+\r\n$/,
  KeyMgmt: /^SET_PARAMETER [\s\S]*\r\nContent-Type: text\/parameters\r\n[\s\S]*\r\n\r\nKeyMgmt: prot=mikey;uri="rtsps:/,
};

describe("NULL-keyed keys are replaced while playing", () => {
  it.each(CLIENT_MAKES)("by the client of %s, in its dialect, no packet lost", async (name) => {
    const setting = peerSetting(peerProfile(name), {}, { tracks: [PCMU, H264] });
    const said = listen(setting);
    const player = await playing(setting, { keying: clientKeying(setting.network, name), mediaTimeout: 0 }, "udp", [0, 1]);
    const before = player.statistics.map(({ mki }) => mki);
    const sent: string[] = [];
    for (let count = 0; count < 60; count++) {
      if (count % 20 === 10) {
        const rekeyed = setting.run(player.rekey(), 1);
        setting.source.rtp(0, utf8(`${count}`));
        sent.push(`${count}`);
        expect(await rekeyed).toBe(2);
      }
      setting.source.rtp(1, utf8(`video ${count}`));
      sent.push(`video ${count}`);
      await setting.network.advance(20);
    }
    expect(payloads(player.received).toSorted()).toEqual(sent.toSorted());
    expect(player.statistics.map(({ mki }) => mki)).not.toEqual(before);
    expect(setting.server.sessions[0]?.tracks.map(({ fingerprint }) => fingerprint)).toEqual(
      player.statistics.map(({ fingerprint }) => fingerprint),
    );
    expect(setting.server.sessions[0]?.tracks[0]?.tolerances).toContain("rekey-under-new-csb");
    const requests = said.filter((text) => text.startsWith("SET_PARAMETER"));
    expect(requests).toHaveLength(peerProfile(name).rekeyForm === "mikey" ? 6 : 3);
    for (const request of requests) expect(request).toMatch(FORMS[peerProfile(name).rekeyForm]);
    // Reports go on under the new key, the old one goes after the overlap.
    await setting.network.advance(40_000);
    setting.source.rtp(0, utf8("after"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toContain("after");
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ authenticationFailures: 0 }, { authenticationFailures: 0 }]);
  });

  it.each(SERVER_MAKES)("by the server of %s, in its dialect, no packet lost", async (name) => {
    const setting = peerSetting(peerProfile(name), {}, { presentation: { rekeyInterval: 10 } });
    const said = listen(setting);
    const player = await playing(setting, { keying: clientKeying(setting.network, name) });
    const fingerprints = new Set<string | undefined>();
    for (let count = 0; count < 450; count++) {
      setting.source.rtp(0, utf8(`${count}`));
      await setting.network.advance(100);
      fingerprints.add(player.statistics[0]?.fingerprint);
    }
    expect(payloads(player.received)).toEqual(Array.from({ length: 450 }, (_, count) => `${count}`));
    expect(fingerprints.size).toBe(5);
    const requests = said.filter((text) => text.startsWith("SET_PARAMETER"));
    expect(requests).toHaveLength(4);
    for (const request of requests) expect(request).toMatch(FORMS[peerProfile(name).rekeyForm]);
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ authenticationFailures: 0 }]);
    expect(setting.server.sessions[0]?.tracks[0]?.reports).toBeGreaterThan(3);
  });

  it("by both ends of strict, each its own", async () => {
    const setting = peerSetting(peerProfile("strict"));
    const player = await playing(setting, { keying: clientKeying(setting.network, "strict"), mediaTimeout: 0 });
    const [id] = setting.server.sessions.map((session) => session.id);
    expect(await setting.run(player.rekey())).toBe(1);
    expect(await setting.run(setting.server.rekey(id ?? ""))).toBe(1);
    expect(await setting.run(player.rekey())).toBe(1);
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(40_000);
    expect(payloads(player.received)).toEqual(["x"]);
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ authenticationFailures: 0 }]);
    expect(setting.server.sessions[0]?.tracks[0]?.reports).toBeGreaterThan(3);
  });

  it.each(["player", "server"] as const)("by the %s for all streams or for none", async (by) => {
    const setting = peerSetting(peerProfile("strict"), {}, { tracks: [PCMU, H264] });
    const stream = await setting.dial();
    // Somebody on the way, who changes which stream the second message is for.
    rewrite(stream, by, (text) => (text.startsWith("SET_PARAMETER") ? text.replace(/\/track2"/, '/track9"') : text));
    const player = await playing(
      setting,
      { stream, keying: clientKeying(setting.network, "strict"), mediaTimeout: 0 },
      "udp",
      [0, 1],
    );
    const keys = () => [player.statistics, setting.server.sessions[0]?.tracks ?? []].map((all) => all.map(({ mki }) => mki));
    const before = keys();
    const [id = ""] = setting.server.sessions.map((session) => session.id);
    const rekeying = setting.run(by === "server" ? setting.server.rekey(id) : player.rekey());
    await expect(rekeying).rejects.toMatchObject({ code: "rtsp.rekey" });
    expect(keys()).toEqual(before);
  });

  it.each(NEVER)("never towards %s", async (name) => {
    const setting = peerSetting(peerProfile(name), {}, { presentation: { rekeyInterval: 1 } });
    const said = listen(setting);
    const player = await playing(setting, { keying: clientKeying(setting.network, name) });
    await setting.network.advance(5000);
    expect(await setting.run(player.rekey())).toBe(0);
    expect(said.filter((text) => text.startsWith("SET_PARAMETER"))).toEqual([]);
  });
});

describe("a new key from a stranger to updates", () => {
  /** A complete message with a key of its own, as recorders send it. */
  async function replacement(
    setting: Setting,
    mki: number,
    change: { readonly sp?: boolean; readonly rand?: boolean } = {},
  ): Promise<string> {
    const pending = await createInitiator({ crypto: nobleCrypto, clock: setting.network.clock }).begin({
      credential: { nullKeying: true },
      secure: true,
      cryptoSessions: [{ ssrc: 0x01020304 }],
      policies: new Map([[0, { suite: AES80 }]]),
      keys: [{ kind: "TEK", spi: Uint8Array.of(0, 0, 0, mki) }],
    });
    const { header, payloads: all } = decodeMessage(pending.octets);
    const dropped = [...(change.sp === false ? ["SP"] : []), ...(change.rand === false ? ["RAND"] : [])];
    return formatBase64(encodeMessage({ header, payloads: all.filter(({ kind }) => !dropped.includes(kind)) }));
  }

  async function recorder(profile: PeerProfileName) {
    const setting = peerSetting(peerProfile(profile));
    const stream = await setting.dial();
    const answers: string[] = [];
    stream.onData = (octets) => answers.push(utf8Text(octets) ?? "");
    let sequence = 0;
    const ask = async (line: string, fields: string, body = ""): Promise<string> => {
      const length = body === "" ? "" : `Content-Type: text/parameters\r\nContent-Length: ${body.length}\r\n`;
      stream.write(utf8(`${line} RTSP/1.0\r\nCSeq: ${++sequence}\r\n${fields}${length}\r\n${body}`));
      await setting.network.advance(10);
      return answers.at(-1) ?? "";
    };
    await ask("DESCRIBE rtsps://server/s", "");
    const answer = await ask(
      "SETUP rtsps://server/s/track1",
      `Transport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\nKeyMgmt: prot=mikey;uri="rtsps://server/s/track1";data="${await replacement(setting, 1)}"\r\n`,
    );
    const session = `Session: ${/Session: ([0-9a-f]+)/.exec(answer)?.[1]}\r\n`;
    return { setting, ask, session };
  }

  it.each([
    ["another CSB ID and a RAND", {}],
    ["another CSB ID without RAND", { rand: false }],
    ["no policy, which stays", { sp: false, rand: false }],
  ])("is taken with %s, and said to be tolerated", async (_name, change) => {
    const { setting, ask, session } = await recorder("onvif");
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ mki: "00000001" }]);
    expect(await ask("SET_PARAMETER rtsps://server/s", session, `mikey: ${await replacement(setting, 2, change)}\r\n`)).toMatch(
      / 200 OK/,
    );
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ mki: "00000002", suite: AES80 }]);
    expect(setting.server.sessions[0]?.tracks[0]?.tolerances).toContain("rekey-under-new-csb");
  });

  it("is refused under the MKI that is in use, without an MKI, and where it is not tolerated; the old key stays", async () => {
    const { setting, ask, session } = await recorder("onvif");
    const refused = async (octets: string): Promise<void> => {
      expect(await ask("SET_PARAMETER rtsps://server/s", session, `mikey: ${octets}\r\n`)).toMatch(/ 463 /);
      expect(setting.server.sessions[0]?.tracks).toMatchObject([{ mki: "00000001" }]);
    };
    await refused(await replacement(setting, 1));
    const strict = await recorder("strict");
    expect(
      await strict.ask("SET_PARAMETER rtsps://server/s", strict.session, `mikey: ${await replacement(strict.setting, 2)}\r\n`),
    ).toMatch(/ 463 /);
    expect(strict.setting.events.at(-1)).toMatchObject({ type: "refused", code: "gsa.rekey" });
  });

  it("never takes the place of a key that a pre-shared key protects", async () => {
    const setting = peerSetting({ ...peerProfile("onvif"), privateAttributes: true }, { psk: PSK });
    const player = await playing(setting, { keying: clientKeying(setting.network, "strict", { psk: PSK }) }, "tcp");
    const [session] = setting.server.sessions;
    const stream = await setting.dial();
    let answer = "";
    stream.onData = (octets) => {
      answer += utf8Text(octets) ?? "";
    };
    const body = `mikey: ${await replacement(setting, 9)}\r\n`;
    stream.write(
      utf8(
        `SET_PARAMETER rtsps://server/s RTSP/1.0\r\nCSeq: 1\r\nSession: ${session?.id}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      ),
    );
    await setting.network.advance(10);
    expect(answer).toMatch(/ 463 /);
    expect(setting.server.sessions[0]?.tracks[0]?.mki).toBe(session?.tracks[0]?.mki);
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["x"]);
  });
});

describe("a key whose packets are used up", () => {
  it.each([
    ["under a pre-shared key", "strict", PSK],
    ["NULL-keyed", "onvif", undefined],
  ] as const)("is replaced before, %s", async (_name, profile, psk) => {
    const setting = peerSetting(peerProfile(profile), { keyLifetime: { rtp: 400 }, ...(psk === undefined ? {} : { psk }) });
    const player = await playing(setting, { keying: clientKeying(setting.network, profile, psk === undefined ? {} : { psk }) });
    for (let count = 0; count < 1500; count++) {
      setting.source.rtp(0, utf8(`${count}`));
      await setting.network.advance(20);
    }
    expect(player.received.rtp).toHaveLength(1500);
    expect(setting.events.filter(({ type }) => type === "rekeyed").length).toBeGreaterThanOrEqual(4);
    expect(setting.server.sessions).toHaveLength(1);
  });

  it("of the client's making is replaced by the client", async () => {
    const setting = peerSetting(peerProfile("axis"));
    const keying = clientKeying(setting.network, "axis", { keyLifetime: { rtp: 400 } });
    const player = await playing(setting, { keying });
    const keys = new Set<string | undefined>();
    for (let count = 0; count < 1000; count++) {
      setting.source.rtp(0, utf8(`${count}`));
      await setting.network.advance(20);
      keys.add(player.statistics[0]?.mki);
    }
    expect(player.received.rtp).toHaveLength(1000);
    expect(keys.size).toBeGreaterThanOrEqual(3);
  });

  it("ends the session where the peer takes no other: nothing goes out under a key that is used up", async () => {
    const setting = peerSetting(peerProfile("gstreamer"), { keyLifetime: { rtp: 100 } });
    const player = await playing(setting, { keying: clientKeying(setting.network, "gstreamer") });
    for (let count = 0; count < 150; count++) {
      setting.source.rtp(0, utf8(`${count}`));
      await setting.network.advance(20);
    }
    expect(player.received.rtp).toHaveLength(100);
    expect(setting.events.at(-1)).toMatchObject({ type: "ended", reason: "failed" });
  });

  it("of the client's interval is replaced in time", async () => {
    const setting = peerSetting(peerProfile("genetec"));
    const player = await playing(setting, {
      keying: clientKeying(setting.network, "genetec"),
      rekeyInterval: 5000,
      mediaTimeout: 0,
    });
    const first = player.statistics[0]?.mki;
    await setting.network.advance(12_000);
    const second = player.statistics[0]?.mki;
    expect(Number.parseInt(second ?? "", 16)).toBe((Number.parseInt(first ?? "", 16) + 2) % 2 ** 32);
  });
});
