export * from "./authentication.js";
export * from "./auto-keying.js";
export * from "./client.js";
export { RtspStatusError } from "./client-connection.js";
export type { ClientTrackStatistics } from "./client-track.js";
export * from "./group-carrier.js";
export type { GroupPresentations } from "./group-sessions.js";
export * from "./headers.js";
export type {
  ClientKeying,
  ClientKeyingRequest,
  KeyingHabits,
  KeyingOutcome,
  KeyingPeer,
  KeyingStream,
  ServerKeying,
} from "./keying.js";
export * from "./media.js";
export * from "./message.js";
export * from "./mikey-keying.js";
export * from "./parser.js";
export { createPublishedSource, type PublishedSource, type Publishing } from "./publishing.js";
export * from "./rtcp.js";
export {
  createRtspServer,
  type MediaProfile,
  maxConnectionsOf,
  type Presentation,
  type RtspServer,
  type RtspServerEvent,
  type RtspServerOptions,
} from "./server.js";
export type { ConnectionLimits } from "./server-connection.js";
export type { MulticastDelivery } from "./server-group.js";
export type { RtspSessionInfo, RtspTrackInfo, SessionEnd, SessionState } from "./server-session.js";
export type { StrangerLimits } from "./strangers.js";
export * from "./transport.js";
export * from "./uri.js";
