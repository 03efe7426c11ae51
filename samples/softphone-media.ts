/**
 * What is around the softphone of softphone-sipjs.ts, in its smallest form: one audio line on a UDP port, silence out, packets counted; and a
 * user agent on loopback that takes every call. An application has its own media and its own SIP server.
 */
import { type URI, UserAgent, type UserAgentOptions } from "sip.js";
import { createDatagramsFactory } from "watchword/node";
import { SipTransport } from "watchword/node/sip";
import { parseDescription } from "watchword/sdp";
import type { MediaPort } from "watchword/sip/sipjs";

/** Media of one call. @param name said beside the number of packets at the end */
export function createSampleMedia(name: string, onPacket?: () => void): MediaPort {
  const binding = createDatagramsFactory().bind({ host: "127.0.0.1", port: 0 });
  let sending: NodeJS.Timeout | undefined;
  let remote = { host: "127.0.0.1", port: 0 };
  let sequence = 0;
  let packets = 0;
  return {
    describe: async () =>
      `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio ${(await binding).local.port} RTP/AVP 0\r\n`,
    setRemote: async (_type, sdp) => {
      const { media, connection } = parseDescription(sdp);
      remote = { host: connection?.address ?? remote.host, port: media[0]?.port ?? 0 };
    },
    async attach(stream) {
      const socket = await binding;
      stream.onRtp = () => {
        packets++;
        onPacket?.();
      };
      socket.onDatagram = (datagram) => stream.receive(datagram);
      sending = setInterval(() => {
        const packet = new Uint8Array(172).fill(0xff, 12);
        const view = new DataView(packet.buffer);
        view.setUint32(0, 0x8000_0000 + (++sequence & 0xffff));
        view.setUint32(4, sequence * 160);
        view.setUint32(8, socket.local.port);
        const sealed = stream.protect(packet);
        if (sealed !== undefined) socket.send(sealed, remote);
      }, 20);
    },
    async close() {
      clearInterval(sending);
      (await binding).close();
      console.log(`${name} heard ${packets} packets`);
    },
  };
}

/** Options of a user agent that is called directly, over UDP. */
export function onLoopback(uri: string, agent: () => UserAgent): UserAgentOptions {
  return {
    uri: UserAgent.makeURI(uri) as URI,
    contactParams: { transport: "udp" },
    transportConstructor: SipTransport,
    transportOptions: { transport: "udp", onBound: (address: object) => Object.assign(agent().contact.uri, address) },
    delegate: { onInvite: (invitation) => void invitation.accept() },
    logBuiltinEnabled: false,
  };
}
