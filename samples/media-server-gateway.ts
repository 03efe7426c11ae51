/**
 * Puts SRTP keyed by MIKEY in front of any encoder or media server that sends plain RTP, inside a Node server of your own: here one that
 * also answers HTTP with who is watching. See samples/README.md.
 * Run: npx tsx samples/media-server-gateway.ts encoder.sdp
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createMediaKeying } from "watchword/gsa";
import { createRtpSource, startRtspService, systemClock, systemTimers } from "watchword/node";
import { anyClientProfile, peerPolicy, peerProfile } from "watchword/peers";
import { createMikeyServerKeying, createPskDirectory, identityOf } from "watchword/rtsp";

const { VIEWER_KEY, TLS_CERT, TLS_KEY, RTSP_PORT = "8554", HTTP_PORT = "8080" } = process.env;
const [description] = process.argv.slice(2);
if (description === undefined || (VIEWER_KEY === undefined && TLS_CERT === undefined)) {
  console.error("give the SDP file of the encoder, and VIEWER_KEY (hexadecimal), or TLS_CERT and TLS_KEY (files), or all of them");
  process.exit(2);
}

const suite = "AES_CM_128_HMAC_SHA1_80";
const common = { clock: systemClock, timers: systemTimers, identity: identityOf("gateway") };
const tls =
  TLS_CERT === undefined || TLS_KEY === undefined
    ? undefined
    : { cert: readFileSync(TLS_CERT, "utf8"), key: readFileSync(TLS_KEY, "utf8") };

// Clients without a pre-shared key (GStreamer, ONVIF recorders) get NULL-keyed messages: as safe as the TLS connection, and only there.
const anyClient = anyClientProfile();
const open = { keying: createMediaKeying({ ...common, dialect: anyClient }), policy: peerPolicy(anyClient, suite) };
const psk = VIEWER_KEY === undefined ? undefined : Uint8Array.from(Buffer.from(VIEWER_KEY, "hex"));
const keying =
  psk === undefined
    ? createMikeyServerKeying({ ...open, habits: anyClient })
    : createMikeyServerKeying({
        keying: createMediaKeying({
          ...common,
          dialect: peerProfile("strict"),
          requirePsk: true,
          findCredential: () => ({ psk }),
        }),
        policy: { suite },
        directory: createPskDirectory([["viewer", psk]]),
        ...(tls === undefined ? {} : { open, habits: anyClient }),
      });

const service = await startRtspService({
  host: "127.0.0.1",
  port: Number(RTSP_PORT),
  ...(tls === undefined ? {} : { tls }),
  presentations: [
    { path: "/live", source: createRtpSource({ sdp: readFileSync(description, "utf8") }), profile: "RTP/SAVP", keying },
  ],
  onEvent: (event) => {
    if (event.type === "refused") console.log(`refused ${event.method}: ${event.status} ${event.code ?? ""}`);
    else console.log(`${event.type} ${event.session.id} ${event.type === "ended" ? event.reason : event.session.remote.host}`);
  },
});

const http = createServer((_request, response) => {
  const sessions = service.server.sessions.map(({ id, state, remote, tracks }) => ({
    id,
    state,
    from: remote.host,
    tracks: tracks.map(({ suite, packets }) => ({ suite, packets })),
  }));
  response.setHeader("Content-Type", "application/json").end(JSON.stringify(sessions));
});
await new Promise<void>((done) => http.listen(Number(HTTP_PORT), "127.0.0.1", done));

console.log(`media ${service.url("/live")}`);
console.log(`status http://127.0.0.1:${(http.address() as AddressInfo).port}/`);
process.once("SIGINT", async () => {
  http.close();
  await service.close();
});
