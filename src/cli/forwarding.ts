import { writeFileSync } from "node:fs";
import { WatchwordError } from "../bytes/index.js";
import type { Endpoint } from "../io/index.js";
import { createRtpForwarder, type MediaSink } from "../node/index.js";
import type { MediaTrack } from "../rtsp/index.js";

/**
 * Plain RTP for a player, and the description that it opens, in the working folder.
 * @throws (rejects) WatchwordError `node.file` where that cannot be written, and those of `createRtpForwarder`
 */
export async function openPlainOutput(target: Endpoint, tracks: readonly MediaTrack[]): Promise<MediaSink> {
  const forwarder = await createRtpForwarder({ target, tracks });
  const file = `watchword-${target.port}.sdp`;
  try {
    writeFileSync(file, forwarder.sdp);
  } catch (error) {
    // Its socket would hold the process.
    await forwarder.close();
    throw new WatchwordError("node.file", `cannot write ${file}: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
  process.stderr.write(`plain RTP to rtp://${target.host}:${target.port}, described in ${file}\n`);
  return forwarder;
}
