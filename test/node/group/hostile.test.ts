import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { definitionOn, join, type Server, startServer } from "./support.js";

describe("a key server among people who mean no good", () => {
  let server: Server;

  beforeAll(async () => {
    server = await startServer({ groups: [definitionOn(47_050)] });
  });

  afterAll(async () => {
    await server.service.close();
  });

  const rtspUrl = (): string => server.service.urisOf("blue")[1] ?? "";
  const portIn = (uri: string): number => Number(/:(\d+)(?:[/;]|$)/.exec(uri)?.[1]);

  /** Says something on a connection of its own. @returns what comes back: a final response, or what there is after some time */
  const say = (port: number, text: string, patience = 10_000): Promise<string> =>
    new Promise((resolve, reject) => {
      let answer = "";
      const socket = connect(port, "127.0.0.1", () => socket.write(text));
      socket.setTimeout(patience, () => socket.destroy());
      socket.on("data", (data) => {
        answer += data.toString("latin1");
        if (/^(?:SIP|RTSP)\/\d\.\d [2-6]/m.test(answer)) socket.setTimeout(50);
      });
      socket.on("error", reject);
      socket.on("close", () => resolve(answer));
    });
  const ask = (method: string, url: string, ...fields: readonly string[]): Promise<string> =>
    say(portIn(rtspUrl()), `${[`${method} ${url} RTSP/1.0`, "CSeq: 1", ...fields].join("\r\n")}\r\n\r\n`);

  const TRANSPORT = "Transport: RTP/SAVP;multicast";

  it.each([
    ["SETUP without a key", "SETUP", "", [TRANSPORT], 463],
    ["SETUP with a damaged header", "SETUP", "", [TRANSPORT, 'KeyMgmt: prot=mikey;data="*"'], 463],
    ["SETUP with a message that is none", "SETUP", "", [TRANSPORT, 'KeyMgmt: prot=mikey;data="AQID"'], 463],
    ["SETUP of unicast", "SETUP", "", ["Transport: RTP/SAVP;unicast;client_port=5000-5001"], 461],
    ["SETUP in the clear", "SETUP", "", ["Transport: RTP/AVP;multicast"], 461],
    ["SETUP of a stream that is not there", "SETUP", "/track9", [TRANSPORT], 404],
    ["a session that is none", "PLAY", "", ["Session: 0123456789abcdef"], 454],
    ["TEARDOWN of nothing", "TEARDOWN", "", ["Session: 0123456789abcdef"], 454],
    ["a report outside a session", "SET_PARAMETER", "", [], 454],
    ["publishing", "ANNOUNCE", "", [], 405],
  ])("answers %s", async (_name, method, path, fields, status) => {
    expect(await ask(method, `${rtspUrl()}${path}`, ...fields)).toMatch(new RegExp(`^RTSP/1\\.0 ${status} `));
  });

  it("describes only what is there", async () => {
    const url = rtspUrl();
    expect(await ask("DESCRIBE", url)).toContain("a=x-watchword-group:Ymx1ZQ==");
    for (const name of ["red", "%", "%00", "blue/track1", "..", `${"x".repeat(2000)}`])
      expect(await ask("DESCRIBE", url.replace("blue", name)), name).toMatch(/^RTSP\/1\.0 40[04] /);
  });

  it("refuses a wrong key and an unknown member alike", async () => {
    const wrong = await join(rtspUrl(), "listener", { credential: { psk: new Uint8Array(32) } }).catch((error: unknown) => error);
    expect(wrong).toMatchObject({ name: "MikeyPeerError" });
    await expect(join(rtspUrl(), "nobody")).rejects.toMatchObject({ code: "member.refused" });
    // More than the role allows is not granted.
    const sender = await join(rtspUrl(), "listener", { role: { send: true, receive: true } });
    expect(sender.joined.membership.role).toEqual({ send: false, receive: true });
    await sender.joined.close();
  });

  it("answers INVITEs that ask for nothing, or for nonsense", async () => {
    const port = portIn(server.service.sip[0] ?? "");
    const invite = (body: string, id = String(body.length)): string =>
      [
        `INVITE sip:blue@127.0.0.1:${port} SIP/2.0`,
        `Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK${id};rport`,
        `From: <sip:m@x>;tag=${id}`,
        `To: <sip:blue@127.0.0.1:${port}>`,
        `Call-ID: ${id}@x`,
        "CSeq: 1 INVITE",
        "Contact: <sip:m@127.0.0.1:9;transport=tcp>",
        "Max-Forwards: 70",
        ...(body === "" ? [] : ["Content-Type: application/sdp"]),
        `Content-Length: ${body.length}`,
        "",
        body,
      ].join("\r\n");
    const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n";
    for (const body of [
      "nonsense",
      sdp,
      `${sdp}m=audio 9 RTP/SAVP 0\r\n`,
      `${sdp}a=key-mgmt:mikey AQID\r\nm=audio 9 RTP/SAVP 0\r\n`,
      `${sdp}a=key-mgmt:mikey *\r\nm=audio 9 RTP/SAVP 0\r\n`,
    ])
      expect(await say(port, invite(body)), body).toMatch(/SIP\/2\.0 488 /);
    expect(await say(port, invite(""))).toMatch(/SIP\/2\.0 [45]\d\d /);
    const asking = (field: string): string => invite("", "asking").replace("Max-Forwards", `${field}\r\nMax-Forwards`);
    expect(await say(port, asking("Require: timer, x-nothing"))).toMatch(
      /SIP\/2\.0 420 Bad Extension\r\n(?:.+\r\n)*Unsupported: timer, x-nothing\r\n/,
    );
    expect(await say(port, "\u0000\u0001\u0002 nonsense\r\n\r\n", 700)).toBe("");
  });

  it("sends who comes by UDP to TCP, before anything is worked out", async () => {
    const port = portIn(server.service.sip[0] ?? "");
    const socket = createSocket("udp4");
    try {
      const final = new Promise<string>((resolve) => {
        socket.on("message", (octets) => {
          const text = octets.toString("latin1");
          if (!text.startsWith("SIP/2.0 1")) resolve(text);
        });
      });
      await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
      const lines = [
        `INVITE sip:blue@127.0.0.1:${port} SIP/2.0`,
        `Via: SIP/2.0/UDP 127.0.0.1:${socket.address().port};branch=z9hG4bKudp;rport`,
        "From: <sip:m@x>;tag=1",
        `To: <sip:blue@127.0.0.1:${port}>`,
        "Call-ID: udp@x",
        "CSeq: 1 INVITE",
        "Contact: <sip:m@127.0.0.1:9>",
        "Max-Forwards: 70",
        "Content-Length: 0",
      ];
      socket.send(`${lines.join("\r\n")}\r\n\r\n`, port, "127.0.0.1");
      const text = await final;
      expect(text).toMatch(/^SIP\/2\.0 302 /);
      expect(text).toContain(`Contact: <sip:blue@127.0.0.1:${port};transport=tcp>`);
    } finally {
      socket.close();
    }
  });

  it("goes on all the same", async () => {
    for (const uri of server.service.urisOf("blue")) {
      const { joined } = await join(uri, "listener");
      expect(await joined.leave()).toBe("verified");
    }
  });
});
