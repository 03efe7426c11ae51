import { describeGkma } from "../suites/gkma.js";
import { VARIANTS } from "./group.js";

for (const variant of VARIANTS) describeGkma(variant);
