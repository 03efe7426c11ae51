/** What stands on sip.js, a package that is installed only where it is wanted. */
import { WatchwordError } from "../bytes/index.js";

/** @throws WatchwordError `cli.sip-js` */
export function loadSip(): Promise<typeof import("../node/sip/index.js")> {
  return load("SIP needs", () => import("../node/sip/index.js"));
}

/** @throws WatchwordError `cli.sip-js` */
export function loadGroup(): Promise<typeof import("../node/group/index.js")> {
  return load("groups need", () => import("../node/group/index.js"));
}

async function load<T>(what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new WatchwordError("cli.sip-js", `${what} the package sip.js, which is not installed: npm install sip.js`, {
      cause: error,
    });
  }
}
