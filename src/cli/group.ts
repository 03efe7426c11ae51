import { WatchwordError } from "../bytes/index.js";

/** `watchword/node/group` stands on sip.js, which is installed only where it is wanted. @throws WatchwordError `cli.sip-js` */
export async function loadGroup(): Promise<typeof import("../node/group/index.js")> {
  try {
    return await import("../node/group/index.js");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new WatchwordError("cli.sip-js", "groups need the package sip.js, which is not installed: npm install sip.js", {
      cause: error,
    });
  }
}

/** A master key identifier of a group, as packets carry it. */
export function formatMki(mki: number): string {
  return mki.toString(16).padStart(8, "0");
}
