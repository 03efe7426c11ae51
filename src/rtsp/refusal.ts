import type { RtspHeaders } from "./message.js";

/** Why a request is answered with something other than 200. */
export class RtspRefusal extends Error {
  readonly status: number;
  readonly fields: RtspHeaders;

  constructor(status: number, fields: RtspHeaders = [], options?: { readonly cause?: unknown }) {
    super(`RTSP ${status}`, options);
    this.status = status;
    this.fields = fields;
  }
}
