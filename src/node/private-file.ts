/** Files with secrets: ours, and closed to others. */
import { closeSync, fstatSync, openSync, readFileSync, type Stats } from "node:fs";
import { WatchwordError } from "../bytes/index.js";
import { nodeError } from "./errors.js";
import { plainOctets } from "./octets.js";

/** Octets of the longest file that is read. */
const MOST_OCTETS = 16 << 20;

/**
 * Reads a file that nobody else may read: an ordinary one that belongs to this user or to root, or a pipe of ours.
 * @throws WatchwordError `node.store-file`: it is open to others; `node.file`, `node.permission`
 */
export function readPrivateFile(path: string): Uint8Array {
  try {
    const descriptor = openSync(path, "r");
    try {
      const stats = fstatSync(descriptor);
      checkPrivate(path, stats, true);
      if (stats.size > MOST_OCTETS) throw new WatchwordError("node.store-file", `${path} is longer than a file with a secret`);
      return plainOctets(readFileSync(descriptor));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw nodeError(error, `read ${path}`);
  }
}

/**
 * That a file with secrets is an ordinary one, ours, and closed to others.
 * @param orPipe whether it may be a pipe too, as a shell makes them of the output of a command
 * @throws WatchwordError `node.store-file`
 */
export function checkPrivate(path: string, stats: Stats, orPipe = false): void {
  const refuse = (why: string): never => {
    throw new WatchwordError("node.store-file", `${path} ${why}`);
  };
  if (!stats.isFile() && !(orPipe && stats.isFIFO())) refuse("is not an ordinary file");
  const user = process.geteuid?.();
  // Windows has neither owners nor modes of this kind.
  if (user === undefined) return;
  if (stats.uid !== user && stats.uid !== 0) refuse("belongs to another user");
  if ((stats.mode & 0o077) !== 0) {
    refuse(`has mode ${(stats.mode & 0o777).toString(8)}: others may read or change it (chmod 600 ${path})`);
  }
}
