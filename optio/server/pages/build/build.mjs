// Makes the files of static/vendor: `npm ci && npm run build`, or `node build.mjs DIRECTORY`. The same versions make the same bytes.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2];
const names = ["codemirror", "idiomorph"];
const manifest = {};
const licences = new Map();
mkdirSync(target, { recursive: true });
for (const name of names) {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(here, `${name}.js`)],
    absWorkingDir: here,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    legalComments: "none",
    charset: "utf8",
    write: false,
    outdir: "out",
    metafile: true,
  });
  const data = outputFiles[0].contents;
  writeFileSync(join(target, `${name}.js`), data);
  manifest[`${name}.js`] = { sha256: createHash("sha256").update(data).digest("hex"), packages: packages(metafile) };
}
writeFileSync(join(target, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
const texts = [...licences].map(([text, names]) => `${[...names].join(", ")}\n\n${text}\n`);
writeFileSync(join(target, "licences.txt"), texts.join("\n----\n\n"));

// The packages in a bundle. The text of each licence has to go with the copy.
function packages({ inputs }) {
  const roots = new Set(Object.keys(inputs).map((path) => /^(?:.*\/)?node_modules\/(@[^/]+\/[^/]+|[^/]+)/.exec(path)?.[0]));
  return [...roots].filter(Boolean).sort().map((root) => {
    const { name, version, license } = JSON.parse(readFileSync(join(here, root, "package.json"), "utf8"));
    const text = readFileSync(join(here, root, "LICENSE"), "utf8").trim();
    licences.set(text, (licences.get(text) ?? new Set()).add(name));
    return { name, version, license };
  });
}
