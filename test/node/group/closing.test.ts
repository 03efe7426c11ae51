import { Inviter } from "sip.js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { utf8 } from "../../../src/bytes/index.js";
import { createGroupMember } from "../../../src/member/index.js";
import { systemClock, systemTimers } from "../../../src/node/index.js";
import { addressOf, createSipStack } from "../../../src/node/sip/stack.js";
import { sipIdentity } from "../../../src/sip/index.js";
import { createGroupCalls } from "../../../src/sip/sipjs/index.js";
import { definitionOn, IDENTITY, localhost, PSK, type Server, startServer, until } from "./support.js";

let server: Server;
beforeAll(async () => {
  server = await startServer({ groups: [definitionOn(47_700)], sip: [{ transport: "tcp", local: localhost() }], rtsp: [] });
});
afterAll(() => server.service.close());

it.each([0, 1, 2, 4, 8, 16])("a member that is closed %i turns after it called its key server leaves no call", async (turns) => {
  const calls = createGroupCalls();
  const { userAgent, transport } = createSipStack({
    address: "sip:listener@example.org",
    transport: { transport: "tcp", local: localhost(), publicHost: "127.0.0.1", tls: {} },
    sessionDescriptionHandlerFactory: calls.sessionDescriptionHandlerFactory,
  });
  await userAgent.start();
  let inviters = 0;
  const carrier = calls.carrier({
    inviterTo: async (uri) => {
      inviters++;
      return new Inviter(userAgent, addressOf(uri), { earlyMedia: false });
    },
    target: server.service.urisOf("blue")[0] ?? "",
    streams: [{ media: "audio", profile: "RTP/SAVP", formats: [0], lines: [] }],
    role: { send: false, receive: true },
    host: () => "127.0.0.1",
    sessionId: () => "1",
    secure: false,
  });
  const member = createGroupMember({
    groups: [{ group: utf8("blue"), role: { send: false, receive: true } }],
    credential: { psk: PSK },
    identity: sipIdentity("sip:listener@example.org"),
    gcks: sipIdentity(IDENTITY),
    carrier,
    streams: 1,
    clock: systemClock,
    timers: systemTimers,
  });
  const joining = member.join().then(
    () => "joined",
    ({ code }: { code: string }) => code,
  );
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
  member.close();
  expect(["joined", "sip.state", "member.closed"]).toContain(await joining);
  await until(() => Object.values(userAgent._sessions).every(({ state }) => state === "Terminated"));
  const called = inviters;
  await expect(carrier.register(new Uint8Array(1))).rejects.toMatchObject({ code: "sip.state" });
  expect(inviters).toBe(called);
  await userAgent.stop();
  await transport.disconnect();
});
