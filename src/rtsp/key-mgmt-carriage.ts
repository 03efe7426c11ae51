import { CodecError, utf8, utf8Text } from "../bytes/index.js";
import {
  formatKeyMgmtHeader,
  formatKeyMgmtParameter,
  type KeyMgmtBodyForm,
  type KeyMgmtSpec,
  parseKeyMgmtHeader,
  parseKeyMgmtParameter,
} from "../sdp/index.js";
import { header, listHeader, type RtspHeaders, type RtspRequest, type RtspResponse } from "./message.js";

/** Where key management rides in a message: in the KeyMgmt header (RFC 4567 §4.2), in text parameters, or as a body of its own. */
export type KeyMgmtForm = "header" | KeyMgmtBodyForm | "body";

/** Key management as it came. */
export interface CarriedKeyMgmt {
  readonly form: KeyMgmtForm;
  readonly specs: readonly KeyMgmtSpec[];
}

/** What goes into a message. */
export interface KeyMgmtCarriage {
  readonly fields: RtspHeaders;
  readonly body?: Uint8Array;
}

const MIKEY = "mikey";
/** RFC 3830 §10.1. */
const MIKEY_TYPE = "application/mikey";
/** A longer header value would not pass the header limits of common servers. */
const MAX_HEADER_VALUE = 8192;

/**
 * Puts key management into a message. What is too long for a header becomes the body, of type application/mikey: the octets
 * themselves, which then belong to the request URI.
 * @throws CodecError `sdp.key-mgmt-header`, `sdp.key-mgmt`
 */
export function carryKeyMgmt(specs: readonly KeyMgmtSpec[], form: KeyMgmtForm = "header"): KeyMgmtCarriage {
  const [first] = specs;
  if (first === undefined) return { fields: [] };
  if (form === "mikey" || form === "KeyMgmt") {
    return { fields: [["Content-Type", "text/parameters"]], body: utf8(formatKeyMgmtParameter(form, specs)) };
  }
  const value = form === "header" ? formatKeyMgmtHeader(specs) : undefined;
  if (value !== undefined && (value.length <= MAX_HEADER_VALUE || specs.length > 1)) return { fields: [["KeyMgmt", value]] };
  return { fields: [["Content-Type", MIKEY_TYPE]], body: first.data };
}

/**
 * Reads the key management of a message: the header, else a body of type application/mikey, else (`parameters`) text parameters.
 * @returns undefined where there is none
 * @throws CodecError `sdp.key-mgmt-header`, `bytes.base64`, `sdp.too-large`
 */
export function carriedKeyMgmt(message: RtspRequest | RtspResponse, parameters = false): CarriedKeyMgmt | undefined {
  const value = listHeader(message, "KeyMgmt");
  if (value !== undefined) return { form: "header", specs: parseKeyMgmtHeader(value) };
  if (message.body.length === 0) return undefined;
  const type = header(message, "Content-Type")?.split(";")[0]?.trim().toLowerCase();
  if (type === MIKEY_TYPE) return { form: "body", specs: [{ protocol: MIKEY, data: message.body.slice() }] };
  return parameters ? parseKeyMgmtParameter(utf8Text(message.body) ?? "") : undefined;
}

/** The MIKEY message in the answer to a request of one message: one that cannot be read is empty, which proves nothing. */
export function soleMessage(message: RtspRequest | RtspResponse): Uint8Array | undefined {
  try {
    const carried = carriedKeyMgmt(message);
    if (carried === undefined) return undefined;
    return carried.specs.find(({ protocol }) => protocol === MIKEY)?.data ?? new Uint8Array(0);
  } catch (error) {
    if (error instanceof CodecError) return new Uint8Array(0);
    throw error;
  }
}
