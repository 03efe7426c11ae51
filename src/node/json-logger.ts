import type { Logger } from "../io/index.js";

export type LogLevel = "debug" | "info" | "warn" | "error";

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** A logger that writes one JSON object a line: time, level, message, fields. @param least of what is written */
export function createJsonLogger(write: (line: string) => void, least: LogLevel = "info"): Logger {
  const log =
    (level: LogLevel): Logger["info"] =>
    (message, fields) => {
      if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
      write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })}\n`);
    };
  return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}
