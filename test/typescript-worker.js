/** `--import` for threads that run TypeScript: `--import tsx` does nothing in a thread. */
import { register } from "tsx/esm/api";

register();
