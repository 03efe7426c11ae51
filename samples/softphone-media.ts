/** The media of a softphone in its smallest form: one audio line on a UDP port, silence out, packets counted. An application has its own. */
import { createDatagramsFactory } from "watchword/node";
import { parseDescription } from "watchword/sdp";
import type { MediaPort } from "watchword/sip/sipjs";

export async function createSampleMedia(onPacket: () => void): Promise<MediaPort> {
  const socket = await createDatagramsFactory().bind({ host: "127.0.0.1", port: 0 });
  let sending: NodeJS.Timeout | undefined;
  let remote = { host: "127.0.0.1", port: 0 };
  let sequence = 0;
  return {
    describe: async () =>
      `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio ${socket.local.port} RTP/AVP 0\r\n`,
    setRemote: async (_type, sdp) => {
      const { media, connection } = parseDescription(sdp);
      remote = { host: connection?.address ?? remote.host, port: media[0]?.port ?? 0 };
    },
    attach(stream) {
      stream.onRtp = onPacket;
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
    close() {
      clearInterval(sending);
      socket.close();
    },
  };
}
