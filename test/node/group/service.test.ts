import { describe, expect, it } from "vitest";
import { makeSelfSigned } from "../self-signed.js";
import { openBetween } from "./between.js";
import { createParty, definitionOn, localhost, rtp, until } from "./support.js";

describe("a key server with SIP and RTSP members", () => {
  const { serve, joining } = createParty();

  it("lets them hear one another, rekeys, expels, and proves leaving", async () => {
    const { service, audit } = await serve({ groups: [definitionOn(47_010)] });
    const [sip = "", rtsp = ""] = service.urisOf("blue");
    const speaker = await joining(sip, "speaker");
    const listener = await joining(rtsp, "listener");
    const other = await joining(sip.replace("transport=udp", "transport=tcp"), "listener2");
    let number = 0;
    const speakUntil = async (condition: () => boolean): Promise<void> => {
      await until(() => {
        speaker.speak(number++);
        return condition();
      });
    };
    await speakUntil(() => listener.heard.length > 5 && other.heard.length > 5);
    expect(
      service.gcks
        .members("blue")
        .map(({ identity }) => identity)
        .sort(),
    ).toEqual(["sip:listener2@example.org", "sip:listener@example.org", "sip:speaker@example.org"]);
    const before = speaker.joined.membership.streams[0]?.mki;
    expect(await service.gcks.expel("blue", "sip:listener2@example.org")).toBe(1);
    await speakUntil(() => speaker.joined.membership.streams[0]?.mki !== before);
    const heard = other.heard.length;
    const count = listener.heard.length;
    await speakUntil(() => listener.heard.length > count + 20);
    expect(other.heard.length).toBeLessThanOrEqual(heard + 1);
    expect(await listener.joined.leave()).toBe("verified");
    expect(await speaker.joined.leave()).toBe("verified");
    expect(audit.filter(({ type }) => type === "left").map(({ member }) => member)).toEqual([
      "sip:listener@example.org",
      "sip:speaker@example.org",
    ]);
  });

  it("lets a joiner wait for the new key to become active, without registering again", async () => {
    const { service } = await serve({ groups: [definitionOn(47_020, {}, { activationDelay: 1.5 })] });
    const [sip = "", rtsp = ""] = service.urisOf("blue");
    const speaker = await joining(sip, "speaker");
    let number = 0;
    const [stream] = speaker.joined.membership.streams;
    speaker.speak(number++);
    const first = stream?.mki;
    const listener = await joining(rtsp, "listener");
    // What is said before the new key is active is not for who has just joined (backward access control).
    await until(() => {
      speaker.speak(number++);
      return stream?.mki !== first && listener.heard.length > 3;
    });
    expect(listener.joined.membership.streams[0]?.statistics.unknownKey).toBeGreaterThan(0);
    expect(listener.states).toEqual(["joining: asked to join", "in-step: GSA installed"]);
    expect(service.gcks.metrics.registrations).toBe(2);
  });

  it.each(["2.0", "auto"] as const)("speaks RTSP 2.0 with members that want %s", async (rtspVersion) => {
    // Without a control group: rekey messages come by SET_PARAMETER.
    const { service } = await serve({ groups: [definitionOn(47_040, {}, { address: undefined })] });
    const url = new URL(service.urisOf("blue")[1] ?? "");
    const between = await openBetween(Number(url.port));
    try {
      url.port = String(between.port);
      const { joined } = await joining(url.href, "listener", { rtspVersion });
      await service.gcks.rekey("blue");
      await until(() => joined.membership.sequence === service.gcks.groups[0]?.sequence);
      expect(await joined.leave()).toBe("verified");
    } finally {
      await between.close();
    }
    const { up, down } = between.said;
    expect(`${up}${down}`).not.toContain("RTSP/1.0");
    expect(up.match(/^[A-Z_]+(?= \S+ RTSP)/gm)).toEqual(expect.arrayContaining(["DESCRIBE", "SETUP", "TEARDOWN"]));
    expect(down).toMatch(/^SET_PARAMETER \S+ RTSP\/2\.0/m);
    expect(service.gcks.members("blue")).toEqual([]);
  });

  it("keeps no session timer, and answers who refreshes a dialog from between by what was before", async () => {
    const { service } = await serve({
      groups: [definitionOn(47_050, {}, { address: undefined })],
      sip: [{ transport: "tcp", local: localhost() }],
    });
    const between = await openBetween(Number(/:(\d+);/.exec(service.sip[0] ?? "")?.[1]));
    try {
      const { joined, states } = await joining(`sip:blue@127.0.0.1:${between.port};transport=tcp`, "listener");
      const { said } = between;
      const invite = said.up;
      expect(invite).toMatch(/^INVITE /);
      expect(invite).not.toMatch(/^(?:Session-Expires|Min-SE):|^Supported:.*\btimer\b/im);
      const field = (name: string, text: string): string => new RegExp(`^${name}: (.*)\r$`, "im").exec(text)?.[1] ?? "";
      const answer = said.down.slice(said.down.indexOf("SIP/2.0 200"));
      const request = (method: string, branch: string): string =>
        [
          `${method} ${/<([^>]+)>/.exec(field("Contact", invite))?.[1]} SIP/2.0`,
          `Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK${branch};rport`,
          `From: ${field("To", answer)}`,
          `To: ${field("From", answer)}`,
          `Call-ID: ${field("Call-ID", answer)}`,
          // Of the other side's own requests there are a few by now.
          `CSeq: 1000 ${method}`,
          "Contact: <sip:between@127.0.0.1:9;transport=tcp>",
          "Max-Forwards: 70",
          "Session-Expires: 90;refresher=uac",
          "Content-Length: 0",
          "",
          "",
        ].join("\r\n");
      const before = said.up.length;
      between.inject(request("INVITE", "refresh"));
      await until(() => said.up.slice(before).includes("CSeq: 1000 INVITE") && said.up.slice(before).includes("SIP/2.0 200"));
      expect(said.up.slice(before)).not.toMatch(/^Session-Expires:/im);
      expect(joined.membership.state).toBe("in-step");
      expect(states).toEqual(["joining: asked to join", "in-step: GSA installed"]);
      expect(service.gcks.metrics.registrations).toBe(1);
    } finally {
      await between.close();
    }
  });

  it.each([
    ["SIP", 0],
    ["RTSP", 1],
  ] as const)(
    "joins several groups by one registration over %s, hears each by itself, and leaves all with one proof",
    async (_carrier, at) => {
      const also = (name: string, port: number) => definitionOn(port, { name });
      const { service } = await serve({
        groups: [
          definitionOn(47_070),
          also("red", 47_080),
          also("vip", 47_090),
          definitionOn(47_100, { name: "shut", members: [{ identity: "x" }] }),
        ],
      });
      const uris = service.urisOf("blue");
      const speaker = await joining(uris[0] ?? "", "speaker", {
        also: ["red", "vip"].map((name) => ({ name, role: { send: true, receive: false } })),
      });
      const heard: Record<string, number[]> = { red: [], vip: [] };
      const listener = await joining(uris[at] ?? "", "listener", {
        also: ["red", "vip", "shut"].map((name) => ({
          name,
          role: { send: false, receive: true },
          onRtp: (_stream, packet) => heard[name]?.push(new DataView(packet.buffer, packet.byteOffset).getUint32(12)),
        })),
      });
      expect(listener.joined.memberships.map(({ state }) => state)).toEqual(["in-step", "in-step", "in-step", "idle"]);
      expect(service.gcks.metrics.registrations).toBe(6);
      let number = 0;
      await until(() => {
        number++;
        speaker.speak(3 * number);
        for (const group of [1, 2]) speaker.joined.send(0, rtp(3 * number + group), group);
        return [listener.heard, heard["red"], heard["vip"]].every((packets) => (packets?.length ?? 0) > 3);
      });
      for (const [group, packets] of [listener.heard, heard["red"], heard["vip"]].entries())
        expect(packets?.every((packet) => packet % 3 === group)).toBe(true);
      // Each follows its own rekeys.
      const before = speaker.joined.memberships.map(({ streams }) => streams[0]?.mki);
      await service.gcks.rekey("vip");
      await until(() => {
        speaker.joined.send(0, rtp(3 * ++number + 2), 2);
        return speaker.joined.memberships[2]?.streams[0]?.mki !== before[2];
      });
      expect(speaker.joined.memberships[1]?.streams[0]?.mki).toBe(before[1]);
      expect(await listener.joined.leave()).toBe("verified");
      expect(service.gcks.groups.map(({ members }) => members)).toEqual([1, 1, 1, 0]);
    },
  );

  it("serves TLS, WebSocket and RTSPS beside TCP, in one process", async () => {
    const tls = makeSelfSigned("127.0.0.1");
    const { service } = await serve({
      groups: [definitionOn(47_030, {}, { address: undefined })],
      sip: [
        { transport: "tls", local: localhost(), tls },
        { transport: "ws", local: localhost() },
        { transport: "ws", local: localhost(), tls },
        { transport: "tcp", local: localhost() },
      ],
      rtsp: [{ local: localhost(), tls }],
    });
    const [byTls = "", byWs = "", byWss = "", byTcp = "", byRtsps = ""] = service.urisOf("blue");
    const speaker = await joining(byTls, "speaker", { insecure: true });
    const listeners = [
      await joining(byWs, "listener1"),
      await joining(byWss.replace("sip:", "sips:"), "listener2", { insecure: true }),
      await joining(byTcp, "listener3"),
      await joining(byRtsps, "listener4", { insecure: true }),
    ];
    let number = 0;
    const allHear = async (): Promise<void> => {
      const before = listeners.map(({ heard }) => heard.length);
      await until(() => {
        speaker.speak(number++);
        return listeners.every(({ heard }, index) => heard.length > (before[index] ?? 0) + 3);
      });
    };
    await allHear();
    // No control group: rekey messages come in every dialog and session.
    const before = speaker.joined.membership.streams[0]?.mki;
    await service.gcks.rekey("blue");
    await until(() => {
      speaker.speak(number++);
      return speaker.joined.membership.streams[0]?.mki !== before;
    });
    await allHear();
    for (const { joined } of listeners) expect(await joined.leave()).toBe("verified");
    expect(service.gcks.members("blue")).toHaveLength(1);
  });
});
