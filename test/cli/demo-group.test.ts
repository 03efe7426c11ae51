import { describe, expect, it } from "vitest";
import { demonstrateGroup } from "../../src/cli/demo-group.js";

describe("the demonstration of a group", () => {
  it("shows the same by unicast where there is no multicast", async () => {
    const steps: string[] = [];
    await demonstrateGroup((name, text) => steps.push(`${name}: ${text}`), { multicast: false });
    expect(steps.filter((step) => step.includes("by unicast"))).toHaveLength(1);
    expect(steps.filter((step) => step.startsWith("LEAVE: ") && step.endsWith("verified"))).toHaveLength(2);
    expect(steps.at(-1)).toMatch(/^END: /);
  });
});
