import { utf8 } from "../../src/bytes/index.js";
import type { Stream } from "../../src/io/index.js";
import { createRtspParser, type RtspItem, type RtspResponse } from "../../src/rtsp/index.js";
import type { Setting } from "./support.js";

/** A conversation with a server, text by text. */
export interface Talk {
  readonly stream: Stream;
  readonly items: RtspItem[];
  closed: boolean;
  /** Sends text and gives the responses that came. */
  say(text: string | Uint8Array): Promise<RtspResponse[]>;
}

/** Opens a connection to the server of a setting. */
export async function talk(setting: Setting, from?: string): Promise<Talk> {
  const stream = await setting.dial(from);
  const items: RtspItem[] = [];
  const parser = createRtspParser();
  const conversation: Talk = {
    stream,
    items,
    closed: false,
    say: async (text) => {
      const before = items.length;
      stream.write(typeof text === "string" ? utf8(text) : text);
      await setting.network.advance(10);
      return items.slice(before).filter((item) => item.kind === "response");
    },
  };
  stream.onData = (octets) => parser.push(octets, (item) => items.push(item));
  stream.onClose = () => {
    conversation.closed = true;
  };
  return conversation;
}
