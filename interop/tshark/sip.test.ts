import { beforeAll, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import type { Datagrams } from "../../src/io/index.js";
import { DataType, decodeMessage } from "../../src/mikey/index.js";
import { systemClock, systemTimers } from "../../src/node/index.js";
import { nodeSipSockets, type SipSockets, type SipUserAgent, startSipUserAgent } from "../../src/node/sip/index.js";
import { readKeyMgmt } from "../../src/sdp/index.js";
import { createPskSipKeying } from "../../src/sip/index.js";
import { describePeer } from "../peers.js";
import { type Dissection, dissect } from "./dissect.js";

const PSK = utf8("a pre-shared key for a call on the wire");
const SIP_PORT = 5060;

/** Sockets whose datagrams are copied as they leave. */
function tapped(sockets: SipSockets, wire: Uint8Array[]): SipSockets {
  const bind = async (local: Datagrams["local"]): Promise<Datagrams> => {
    const inner = await sockets.datagrams.bind(local);
    const send = inner.send.bind(inner);
    inner.send = (datagram, to) => {
      wire.push(datagram.slice());
      send(datagram, to);
    };
    return inner;
  };
  return { ...sockets, datagrams: { ...sockets.datagrams, bind } };
}

/** A call with a rekey, as its datagrams. */
async function callOnTheWire(): Promise<Uint8Array[]> {
  const wire: Uint8Array[] = [];
  const agents: SipUserAgent[] = [];
  for (const name of ["alice", "bob"]) {
    agents.push(
      await startSipUserAgent({
        address: `sip:${name}@127.0.0.1:0`,
        transport: { transport: "udp", binaryBodies: true, sockets: tapped(nodeSipSockets(), wire) },
        keying: (uri) => createPskSipKeying({ uri, keys: { find: () => PSK }, clock: systemClock, timers: systemTimers }),
        onCall: (call) => void call.accept({}),
      }),
    );
  }
  const [alice, bob] = agents as [SipUserAgent, SipUserAgent];
  const call = await alice.call(bob.uri);
  await call.rekey();
  const { proof } = await call.hangUp();
  expect(proof).toBe("verified");
  await Promise.all(agents.map((agent) => agent.close()));
  return wire;
}

const ROWS = [
  { name: "INVITE", pattern: /^INVITE [\s\S]*CSeq: 1 /, dataType: DataType.PSK_INIT },
  { name: "200 to INVITE", pattern: /^SIP\/2\.0 200 [\s\S]*CSeq: 1 INVITE/, dataType: DataType.PSK_RESP },
  { name: "re-INVITE", pattern: /^INVITE [\s\S]*CSeq: 2 /, dataType: DataType.PSK_INIT },
  { name: "200 to re-INVITE", pattern: /^SIP\/2\.0 200 [\s\S]*CSeq: 2 INVITE/, dataType: DataType.PSK_RESP },
  { name: "BYE, private data type 243", pattern: /^BYE /, dataType: 243 },
  { name: "200 to BYE, private data type 244", pattern: /^SIP\/2\.0 200 [\s\S]*CSeq: \d+ BYE/, dataType: 244 },
] as const;

describePeer("tshark", "key messages in SIP [dissects our messages]", () => {
  let wire: Uint8Array[];
  let seen: Dissection[];
  beforeAll(async () => {
    wire = await callOnTheWire();
    seen = await dissect(wire, SIP_PORT);
  });
  it.each(ROWS)("$name", ({ pattern, dataType }) => {
    const index = wire.findIndex((octets) => pattern.test(new TextDecoder("latin1").decode(octets)));
    const dissection = seen[index] as Dissection;
    expect(dissection.isMikey).toBe(true);
    expect(dissection.complaints.filter((complaint) => /mikey|malformed/i.test(complaint))).toEqual([]);
    expect(dissection.values("mikey.type").map(Number)).toEqual([dataType]);
    const { header } = decodeMessage(messageIn(wire[index] as Uint8Array));
    expect(dissection.values("mikey.csb_id").map(Number)).toEqual([header.csbId]);
  });
});

/** The key message of a description, or of a body of its own. */
function messageIn(datagram: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(datagram);
  const body = datagram.subarray(text.indexOf("\r\n\r\n") + 4);
  if (/Content-Type: application\/mikey/i.test(text)) return body;
  const data = readKeyMgmt(utf8Text(body) ?? "").effective[0]?.[0]?.data;
  if (data === undefined) throw new Error("no key message");
  return data;
}
