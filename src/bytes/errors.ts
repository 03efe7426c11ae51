/**
 * The one error base. Every failure that leaves this package on purpose is a `WatchwordError`
 * (or a subclass) with a stable `code` of the form `room.reason`; `docs/errors.md` is the index.
 */
export class WatchwordError extends Error {
  override readonly name: string = "WatchwordError";
  /** Stable, machine-readable, `room.reason`. */
  readonly code: string;

  constructor(code: string, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Why octets or text could not be decoded (or a value not encoded), and where. */
export class CodecError extends WatchwordError {
  override readonly name: string = "CodecError";
  /** Dotted path of the field, e.g. `mikey.SP.params`. */
  readonly path: string;
  /** Octet (or character) offset from the start of the outermost input; -1 when encoding. */
  readonly offset: number;

  constructor(code: string, path: string, offset: number, detail: string, options?: { readonly cause?: unknown }) {
    super(code, offset < 0 ? `${path}: ${detail}` : `${path} @${offset}: ${detail}`, options);
    this.path = path;
    this.offset = offset;
  }
}

/** What a path consists of: the name of a field, or the index of an item. */
export type Name = string | number;

/** A path and what stands under it: `mikey.SP`, `mikey.SP.params`, `mikey.SP.params[2]`. An empty name adds nothing. */
export function pathTo(path: string, name: Name): string {
  if (typeof name === "number") return `${path}[${name}]`;
  return name === "" ? path : `${path}.${name}`;
}
