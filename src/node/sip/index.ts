export type { CallEnd, CallKeys, CallMedia, SipCall } from "./call.js";
export * from "./contracts.js";
export { Registration, type RegistrationEvent, type RegistrationOptions } from "./registration.js";
export * from "./retransmission.js";
export * from "./rtp-media.js";
export * from "./sipjs-defects.js";
export * from "./sockets.js";
export * from "./transport.js";
export * from "./user-agent.js";
