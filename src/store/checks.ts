import { utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import { MAX_NAME_OCTETS, MAX_RECORD_OCTETS, MAX_SNAPSHOT_OCTETS, type NewRec, type Selector } from "./contracts.js";

/** What every engine checks before it does anything, alike. @throws WatchwordError `store.name` */
export function checkName(name: string, what: string): void {
  const octets = utf8(name);
  const refuse = (why: string): never => {
    throw new WatchwordError("store.name", `${what}: ${why}`);
  };
  if (octets.length === 0 || octets.length > MAX_NAME_OCTETS) {
    refuse(`${octets.length} octets where 1 to ${MAX_NAME_OCTETS} belong`);
  }
  for (const octet of octets) if (octet < 0x20) refuse("a control character");
  // A lone surrogate turns into another character on the way to the store.
  if (utf8Text(octets) !== name) refuse("not well-formed");
}

/** @throws WatchwordError `store.name` */
export function checkSelector(selector: Selector): void {
  if ("group" in selector) checkName(selector.group, "group");
  else if (selector.prefix !== "") checkName(selector.prefix, "prefix");
}

/** @throws WatchwordError `store.name`, `store.sequence`, `store.too-large` */
export function checkRecord(group: string, record: NewRec): void {
  checkName(group, "group");
  checkName(record.id, "id");
  if (!Number.isSafeInteger(record.gseq) || record.gseq < 0) {
    throw new WatchwordError("store.sequence", `gseq ${record.gseq} is no integer from 0 to 2^53 - 1`);
  }
  checkLength(record.data, MAX_RECORD_OCTETS, "a record");
}

/** @throws WatchwordError `store.name`, `store.too-large` */
export function checkSnapshot(group: string, data: Uint8Array): void {
  checkName(group, "group");
  checkLength(data, MAX_SNAPSHOT_OCTETS, "a snapshot");
}

function checkLength(data: Uint8Array, most: number, what: string): void {
  if (data.length > most) throw new WatchwordError("store.too-large", `${what} of ${data.length} octets, ${most} are kept`);
}
