// An extension of pi, which has no permissions of its own: keeps its tools in the folder in which it was started.
// Loaded where our jail is not in use; pi then has no shell. What a handler throws refuses the call, too.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const SEARCHES = new Set(["grep", "find", "ls"]);
const TOOLS = new Set([...SEARCHES, "read", "edit", "write"]);
const SPACES = /[\u00A0\u2000-\u200A\u202F\u205F\u3000]/g;
const root = fs.realpathSync(process.cwd());

/** Read a path as pi does. */
function expand(given) {
  const name = given.replace(/^@/, "").replace(SPACES, " ");
  return path.resolve(root, name === "~" || name.startsWith("~/") ? os.homedir() + name.slice(1) : name);
}

/** Follow the links on the way to a file, which need not exist. */
function follow(file) {
  const missing = [];
  for (let at = file; ; at = path.dirname(at)) {
    if (fs.lstatSync(at, { throwIfNoEntry: false })) return path.join(fs.realpathSync(at), ...missing);
    missing.unshift(path.basename(at));
  }
}

function refuse(reason) {
  return { block: true, reason };
}

export default function (pi) {
  pi.on("tool_call", async ({ toolName, input }) => {
    if (!TOOLS.has(toolName)) return refuse(`the tool ${toolName} is not allowed here`);
    const given = input.path ?? (SEARCHES.has(toolName) ? "." : undefined);
    if (typeof given !== "string") return refuse("path is missing");
    const real = follow(expand(given));
    if (real !== root && !real.startsWith(root + path.sep)) return refuse(`${given} is outside the workspace ${root}`);
    // Pi looks for variants of names that do not exist, and reads some characters as others: no way around us.
    if (SPACES.test(real) || (toolName === "read" && !fs.existsSync(real))) return refuse(`there is no file ${given}`);
    input.path = real;
    return undefined;
  });
}
