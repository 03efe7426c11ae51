import { concatBytes, utf8, utf8Text } from "../src/bytes/index.js";
import type { Endpoint, Stream } from "../src/io/index.js";
import { connectStream, createStreamListener } from "../src/node/index.js";
import type { Finishing } from "./process.js";

/** One RTSP message that passed. */
interface Recorded {
  readonly from: "client" | "server";
  /** First line, headers and body. */
  readonly text: string;
}

export interface RelayOptions {
  readonly target: Endpoint;
  /** May change a message on its way, for instance to add what a peer has to bear. */
  readonly rewrite?: (message: Recorded, dialogue: readonly Recorded[]) => string;
}

/** Stands between an RTSP client and a server, and records what they say. Media have to take another way (UDP). */
export interface Relay {
  readonly port: number;
  readonly dialogue: readonly Recorded[];
}

export async function startRelay(test: Finishing, options: RelayOptions): Promise<Relay> {
  const dialogue: Recorded[] = [];
  const pass = (from: Recorded["from"], to: Stream): ((octets: Uint8Array) => void) => {
    let pending: Uint8Array = new Uint8Array();
    return (octets) => {
      pending = concatBytes(pending, octets);
      for (;;) {
        const length = messageLength(pending);
        if (length === undefined) return;
        const text = utf8Text(pending.subarray(0, length)) ?? "";
        pending = pending.slice(length);
        const sent = options.rewrite?.({ from, text }, dialogue) ?? text;
        dialogue.push({ from, text: sent });
        to.write(utf8(sent));
      }
    };
  };
  const listener = await createStreamListener({
    host: "127.0.0.1",
    port: 0,
    onStream: (client) => {
      void connectStream(options.target).then((server) => {
        client.onData = pass("client", server);
        server.onData = pass("server", client);
        client.onClose = () => server.end();
        server.onClose = () => client.end();
      });
    },
  });
  test.onTestFinished(() => listener.close());
  return { port: listener.local.port, dialogue };
}

/** Octets of the message at the start, once it is there in full. */
function messageLength(octets: Uint8Array): number | undefined {
  const text = utf8Text(octets) ?? "";
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const body = Number(/^content-length: *(\d+)/im.exec(text.slice(0, end))?.[1] ?? 0);
  const length = end + 4 + body;
  return octets.length < length ? undefined : length;
}
