export * from "./retransmission.js";
export * from "./sipjs-defects.js";
export * from "./sockets.js";
export * from "./transport.js";
