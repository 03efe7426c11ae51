import { WatchwordError } from "../bytes/index.js";

/** What the operating system's and Node's error codes mean here: our stable code and what a user can do about it. */
const MEANINGS: Readonly<Record<string, readonly [code: string, text: string]>> = {
  EADDRINUSE: ["node.address-in-use", "the address is in use: choose another port, or 0 for a free one"],
  EMFILE: ["node.too-many-files", "no file descriptor is left: raise the limit of open files (ulimit -n)"],
  ENFILE: ["node.too-many-files", "the system has no file descriptor left"],
  EADDRNOTAVAIL: ["node.address-not-available", "this machine has no such address"],
  EACCES: ["node.permission", "permission denied"],
  EPERM: ["node.permission", "permission denied"],
  ECONNREFUSED: ["node.connection-refused", "connection refused: nothing listens there"],
  ECONNRESET: ["node.connection-reset", "the peer reset the connection"],
  EPIPE: ["node.connection-reset", "the peer closed the connection"],
  ETIMEDOUT: ["node.connection-timeout", "the connection timed out"],
  EHOSTUNREACH: ["node.unreachable", "the host is unreachable"],
  ENETUNREACH: ["node.unreachable", "the network is unreachable"],
  ENOTFOUND: ["node.name-not-found", "the host name does not resolve"],
  EAI_AGAIN: ["node.name-not-found", "the host name does not resolve"],
  ENOENT: ["node.file", "no such file or folder"],
  EISDIR: ["node.file", "is a folder, not a file"],
  ENOTDIR: ["node.file", "part of the path is not a folder"],
  ENOSPC: ["node.file", "no space left on the device"],
  ERR_TLS_CERT_ALTNAME_INVALID: ["node.certificate-untrusted", "the certificate is for another name"],
  CERT_HAS_EXPIRED: ["node.certificate-untrusted", "the certificate has expired"],
  CERT_NOT_YET_VALID: ["node.certificate-untrusted", "the certificate is not yet valid"],
  DEPTH_ZERO_SELF_SIGNED_CERT: ["node.certificate-untrusted", "the certificate is self-signed and not among the trusted ones"],
  SELF_SIGNED_CERT_IN_CHAIN: ["node.certificate-untrusted", "the certificate chain ends in an issuer that is not trusted"],
  UNABLE_TO_GET_ISSUER_CERT: ["node.certificate-untrusted", "the certificate's issuer is not trusted"],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ["node.certificate-untrusted", "the certificate's issuer is not trusted"],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ["node.certificate-untrusted", "the certificate's issuer is not trusted"],
  INVALID_PURPOSE: ["node.certificate-untrusted", "the certificate is not for a server"],
};

/** The `code` property of a system error, or an empty text. */
function systemCode(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : "";
}

/**
 * Turns an error of Node into a `WatchwordError` with a stable code; `what` says what was being done, for instance
 * `connect to 127.0.0.1:554`. A `WatchwordError` passes through.
 */
export function nodeError(error: unknown, what: string): WatchwordError {
  if (error instanceof WatchwordError) return error;
  const system = systemCode(error);
  const known = MEANINGS[system];
  if (known !== undefined) return new WatchwordError(known[0], `${what}: ${known[1]}`, { cause: error });
  const text = error instanceof Error ? error.message : String(error);
  if (/^(ERR_SSL_|ERR_TLS_|ERR_OSSL_|EPROTO)/.test(system)) {
    return new WatchwordError("node.tls", `${what}: TLS failed: ${text}`, { cause: error });
  }
  return new WatchwordError("node.io", `${what}: ${text}`, { cause: error });
}
