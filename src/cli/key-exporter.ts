import { wipe } from "../bytes/index.js";
import type { ExportedDirection, ExportedKeys } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import type { ClientTrackStatistics, MediaTrack } from "../rtsp/index.js";
import { type ExportFormat, type ExportStream, exportStreams } from "../tools/index.js";

export interface KeyExporterOptions {
  readonly format: ExportFormat;
  /** Where the sealed packets go: track i to port + 2 i. */
  readonly target?: Endpoint;
  readonly print: (text: string) => void;
}

/** Prints the keys under which a server sends, for another program, and again when they change. */
export interface KeyExporter {
  describe(tracks: readonly MediaTrack[]): void;
  /** Takes the keys of an m= line, to be wiped in the end. */
  keys(keys: ExportedKeys): void;
  /**
   * Prints what is new, once every stream has sent: only then its SSRC and rollover counter are certain.
   * @param late whether to go without the streams that have not sent
   * @throws WatchwordError `tools.export-*` where the program cannot take the keys
   */
  update(statistics: readonly ClientTrackStatistics[], late?: boolean): void;
  close(): void;
}

export function createKeyExporter({ format, target, print }: KeyExporterOptions): KeyExporter {
  const inbound = new Map<number, ExportedDirection>();
  let tracks: readonly MediaTrack[] = [];
  let fresh = false;
  const drop = (direction: ExportedDirection | undefined): void => {
    for (const { key, salt } of direction?.keys ?? []) wipe(key, salt);
  };
  const streamOf = ({ policy, keys }: ExportedDirection, { index, sources, tolerances }: ClientTrackStatistics): ExportStream => {
    const [source] = sources;
    const bare = tolerances.includes("mki-missing-in-packets");
    const track = tracks[index];
    return {
      policy,
      keys: bare ? keys.map(({ mki: _announced, ...key }) => key) : keys,
      ...(source === undefined ? {} : { ssrc: source.ssrc, rolloverCounter: source.rolloverCounter ?? 0 }),
      ...(track === undefined ? {} : { track }),
      ...(target === undefined ? {} : { target: { host: target.host, port: target.port + 2 * index } }),
    };
  };
  return {
    describe(described) {
      tracks = described;
    },
    keys(exported) {
      drop(exported.outbound);
      if (exported.inbound === undefined) return;
      drop(inbound.get(exported.stream));
      inbound.set(exported.stream, exported.inbound);
      fresh = true;
    },
    update(statistics, late = false) {
      if (!fresh) return;
      const ready = statistics.filter(({ sources }) => sources.length > 0);
      if (ready.length === 0 || (ready.length < statistics.length && !late)) return;
      fresh = false;
      const streams = ready.flatMap((track) => {
        const direction = inbound.get(track.index);
        return direction === undefined ? [] : [streamOf(direction, track)];
      });
      print(exportStreams(format, streams));
    },
    close() {
      for (const direction of inbound.values()) drop(direction);
      inbound.clear();
    },
  };
}
