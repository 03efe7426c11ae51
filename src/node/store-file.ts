import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, linkSync, openSync, type Stats, statfsSync, statSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { formatHex, WatchwordError } from "../bytes/index.js";
import { nodeError } from "./errors.js";
import { checkPrivate } from "./private-file.js";

/** Magic numbers (statfs(2)) of file systems whose locks or shared memory do not reach the other machine: SQLite's WAL is for local files. */
const REMOTE_FILE_SYSTEMS: Readonly<Record<number, string>> = {
  [0x6969]: "NFS",
  [0x517b]: "SMB",
  [0xff534d42]: "CIFS",
  [0xfe534d42]: "SMB 2",
  [0x01021997]: "9P",
  [0x00c36400]: "Ceph",
  [0x5346414f]: "AFS",
  [0x0bd00bd0]: "Lustre",
  [0x47504653]: "GPFS",
};

/**
 * Sees to it that the file of a store is there, that it is on a local file system, and that nobody else may read it.
 * @param path absolute
 * @throws WatchwordError `node.store-file`, `node.permission`, `node.file`
 */
export function prepareStoreFile(path: string): void {
  try {
    const directory = dirname(path);
    const remote = process.platform === "linux" ? REMOTE_FILE_SYSTEMS[statfsSync(directory).type >>> 0] : undefined;
    if (remote !== undefined) throw new WatchwordError("node.store-file", `${path} is on ${remote}; a store needs a local disk`);
    let found = statOf(path);
    if (found === undefined) {
      createFile(path, directory);
      found = statSync(path);
    }
    checkPrivate(path, found);
  } catch (error) {
    throw nodeError(error, `open the store ${path}`);
  }
}

/**
 * An empty file of mode 600, there at once or not at all, and durable as a name. Made under another name and never opened again: closing
 * a file takes away every lock that the process has on it (fcntl(2)), those of another store on the same file too.
 */
function createFile(path: string, directory: string): void {
  const draft = `${path}.${formatHex(randomBytes(6))}`;
  closeSync(openSync(draft, "wx", 0o600));
  try {
    linkSync(draft, path);
  } catch (error) {
    // Another store was faster.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    unlinkSync(draft);
  }
  if (process.platform === "win32") return;
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}
