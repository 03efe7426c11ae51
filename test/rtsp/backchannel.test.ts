import { describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import { peerProfile, peerProfileNames } from "../../src/peers/index.js";
import { clientKeying, PSK, peerSetting, playing, type ServerChoice } from "./keyed-support.js";
import { createSetting, H264, PCMU, payloads, type Setting } from "./support.js";

const FROM_CLIENT = 0x0a0b0c0d;

function talk(sequence: number, text: string): Uint8Array {
  const packet = new Uint8Array(12 + text.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x8000_0000 + sequence);
  view.setUint32(8, FROM_CLIENT);
  packet.set(utf8(text), 12);
  return packet;
}

function door(name: (typeof peerProfileNames)[number], choice: ServerChoice = {}) {
  const heard: (readonly [track: number, text: string, ssrc: number])[] = [];
  const setting = peerSetting(peerProfile(name), choice, {
    tracks: [H264],
    presentation: {
      backchannel: {
        tracks: [PCMU],
        receive: (track, packet) =>
          heard.push([
            track,
            new TextDecoder().decode(packet.subarray(12)),
            new DataView(packet.buffer, packet.byteOffset).getUint32(8),
          ]),
      },
    },
  });
  return { setting, heard };
}

async function said(setting: Setting, request: string): Promise<string> {
  const stream = await setting.dial();
  let answer = "";
  stream.onData = (octets) => {
    answer += utf8Text(octets) ?? "";
  };
  stream.write(utf8(request));
  await setting.network.advance(20);
  return answer;
}

describe("the ONVIF backchannel", () => {
  it.each(peerProfileNames.flatMap((name) => (["udp", "tcp"] as const).map((transport) => [name, transport] as const)))(
    "%s over %s: the key for what the client sends is as the profile says",
    async (name, transport) => {
      const { setting, heard } = door(name);
      const player = await playing(setting, { keying: clientKeying(setting.network, name), backchannel: true }, transport, [0, 1]);
      setting.source.rtp(0, utf8("picture"));
      player.send(1, talk(1, "who is there?"));
      player.send(1, talk(2, "hello?"));
      await setting.network.advance(8000);
      expect(payloads(player.received)).toEqual(["picture"]);
      expect(heard.map(([track, text]) => [track, text])).toEqual([
        [0, "who is there?"],
        [0, "hello?"],
      ]);
      const [, back] = setting.server.sessions[0]?.tracks ?? [];
      expect(back).toMatchObject({ packets: 2, authenticationFailures: 0, keyedBy: "null" });
      // One key may serve both ways: our SSRC, unlike theirs, keeps the keystreams apart.
      const ssrcs = heard.map(([, , ssrc]) => ssrc);
      expect(new Set(ssrcs).size).toBe(1);
      expect([FROM_CLIENT, PCMU.ssrc, H264.ssrc]).not.toContain(ssrcs[0]);
      if (name !== "strict") return;
      expect(await setting.run(player.rekey())).toBe(2);
      player.send(1, talk(3, "still here"));
      await setting.network.advance(10);
      expect(heard.at(-1)?.[1]).toBe("still here");
    },
  );

  it("under a pre-shared key, with a rekey by the server and a proven end", async () => {
    const { setting, heard } = door("strict", { psk: PSK });
    const keying = clientKeying(setting.network, "strict", { psk: PSK });
    const player = await playing(setting, { keying, backchannel: true }, "udp", [0, 1]);
    player.send(1, talk(1, "one"));
    expect(await setting.run(setting.server.rekey(setting.server.sessions[0]?.id ?? ""))).toBe(2);
    player.send(1, talk(2, "two"));
    await setting.network.advance(10);
    expect(heard.map(([, text]) => text)).toEqual(["one", "two"]);
    expect(await setting.run(player.teardown())).toBe("verified");
  });

  it("is described to who asks, from the client's side, and to nobody else", async () => {
    const { setting } = door("onvif");
    const asking = await setting.client({ backchannel: true });
    const { sdp, description } = await setting.run(asking.describe());
    expect(description.media.map(({ kind, direction }) => [kind, direction])).toEqual([
      ["video", "recvonly"],
      ["audio", "sendonly"],
    ]);
    expect(sdp.match(/^a=key-mgmt:/gm)).toHaveLength(2);
    const other = await setting.client({ host: "other" });
    const plain = await setting.run(other.describe());
    expect(plain.description.media.map(({ kind, direction }) => [kind, direction])).toEqual([["video", undefined]]);
  });

  it("is unsupported where there is none, or together with what nobody knows", async () => {
    const without = peerSetting(peerProfile("onvif"));
    const asking = await without.client({ backchannel: true });
    await expect(without.run(asking.describe())).rejects.toMatchObject({ code: "rtsp.status-551" });
    const { setting } = door("onvif");
    const answer = await said(
      setting,
      "DESCRIBE rtsps://server/s RTSP/1.0\r\nCSeq: 1\r\nRequire: www.onvif.org/ver20/backchannel, something-else\r\n\r\n",
    );
    expect(answer).toMatch(/^RTSP\/1\.0 551 [\s\S]*\r\nUnsupported: something-else\r\n/);
    expect(
      await said(setting, "DESCRIBE rtsps://server/x RTSP/1.0\r\nCSeq: 1\r\nRequire: www.onvif.org/ver20/backchannel\r\n\r\n"),
    ).toMatch(/^RTSP\/1\.0 551 /);
  });

  it("needs a key for the client's direction", async () => {
    const { setting } = door("gstreamer");
    const answer = await said(
      setting,
      "DESCRIBE rtsps://server/s RTSP/1.0\r\nCSeq: 1\r\nRequire: www.onvif.org/ver20/backchannel\r\n\r\nSETUP rtsps://server/s/track2 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\n\r\n",
    );
    expect(answer).toMatch(/RTSP\/1\.0 403 [^\r]*\r\nCSeq: 2/);
    expect(setting.events.at(-1)).toMatchObject({ type: "refused", code: "rtsp.no-receiver-key" });
  });

  it("takes nothing before PLAY, nothing in the clear, and the client sends on no other stream", async () => {
    const { setting, heard } = door("onvif");
    const player = await setting.client({ keying: clientKeying(setting.network, "onvif"), backchannel: true });
    await setting.run(player.describe());
    await setting.run(player.setup(0, "tcp"));
    await setting.run(player.setup(1, "tcp"));
    expect(() => player.send(1, talk(1, "early"))).toThrow(expect.objectContaining({ code: "rtsp.state" }));
    await setting.run(player.play());
    expect(() => player.send(0, talk(1, "x"))).toThrow(expect.objectContaining({ code: "rtsp.track" }));
    expect(() => player.send(7, talk(1, "x"))).toThrow(expect.objectContaining({ code: "rtsp.track" }));
    expect(() => player.send(1, new Uint8Array(11))).toThrow(expect.objectContaining({ code: "rtsp.format" }));
    player.send(1, talk(1, "now"));
    await setting.network.advance(10);
    expect(heard.map(([, text]) => text)).toEqual(["now"]);
  });

  it("is there for plain RTP too, and leaves the sequence numbers of what is played alone", async () => {
    const heard: string[] = [];
    const setting = createSetting({
      presentation: {
        backchannel: { tracks: [PCMU], receive: (_track, packet) => heard.push(utf8Text(packet.subarray(12)) ?? "") },
      },
    });
    const player = await playing(setting, { backchannel: true }, "udp", [0, 1]);
    player.send(1, talk(9, "plain"));
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    expect([heard, payloads(player.received)]).toEqual([["plain"], ["x"]]);
  });

  it("does not go with multicast", () => {
    const backchannel = { tracks: [PCMU], receive: () => {} };
    const multicast = { group: "239.1.2.3", port: 5004 };
    expect(() => createSetting({ presentation: { backchannel, multicast } })).toThrow(
      expect.objectContaining({ code: "rtsp.multicast", message: expect.stringContaining("backchannel") }),
    );
  });
});
