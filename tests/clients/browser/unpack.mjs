// Unpacks the browser into the folder for temporary files, where it looks for itself. Run once, in the folder it is installed in.

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

process.env.TMPDIR = join(process.cwd(), "tmp");
mkdirSync(process.env.TMPDIR, { recursive: true });
const find = createRequire(join(process.cwd(), "package.json"));
const { default: chromium } = await import(pathToFileURL(find.resolve("@sparticuz/chromium")));
await chromium.executablePath();
