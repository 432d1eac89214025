// Holds documents of others' kinds (KEDA's, the Prometheus operator's) against their own types and validators, as the packages of
// @kubernetes-models carry them.
//
//     node custom.mjs NODE_MODULES < DOCUMENTS     a JSON list of documents
//
// Prints a JSON list with the faults of each. The packages' validators let unknown fields pass, as every API type does; the
// compiler does not when it is given the document as a literal of its type. So both are asked.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Which package knows the kinds of which group.
const packages = { "keda.sh": "keda", "monitoring.coreos.com": "prometheus-operator" };

const modules = process.argv[2];
const require = createRequire(join(modules, "of-the-check.js"));
const typescript = require("typescript");

const documents = JSON.parse(readFileSync(0, "utf8"));
const entryOf = ({ apiVersion, kind }) => `@kubernetes-models/${packages[apiVersion.split("/")[0]]}/${apiVersion}/${kind}`;

// Beside node_modules, so that the import is found; it exists in memory only.
const fileOf = (index) => join(modules, "..", `document-${index}.ts`);
const sources = new Map(
  documents.map((document, index) => [
    fileOf(index),
    `import type { I${document.kind} } from "${entryOf(document)}";\n` +
      `export const document: I${document.kind} = ${JSON.stringify(document, null, 1)};\n`,
  ]),
);
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  types: [],
  target: typescript.ScriptTarget.ES2022,
  module: typescript.ModuleKind.NodeNext,
  moduleResolution: typescript.ModuleResolutionKind.NodeNext,
};
const host = typescript.createCompilerHost(options);
const { readFile, fileExists, getSourceFile } = host;
host.fileExists = (file) => sources.has(file) || fileExists(file);
host.readFile = (file) => sources.get(file) ?? readFile(file);
host.getSourceFile = (file, version, ...rest) =>
  sources.has(file)
    ? typescript.createSourceFile(file, sources.get(file), version)
    : getSourceFile.call(host, file, version, ...rest);
const program = typescript.createProgram([...sources.keys()], options, host);

async function faults(document, index) {
  const found = typescript
    .getPreEmitDiagnostics(program, program.getSourceFile(fileOf(index)))
    .map((diagnostic) => typescript.flattenDiagnosticMessageText(diagnostic.messageText, " "));
  try {
    const { [document.kind]: Kind } = await import(pathToFileURL(join(modules, `${entryOf(document)}.js`)));
    new Kind(document).validate();
  } catch (error) {
    found.push(error.message);
  }
  return found;
}

// What fails for a reason of our own is no verdict.
const ours = program.getGlobalDiagnostics().concat(program.getOptionsDiagnostics());
if (ours.length > 0) throw new Error(typescript.flattenDiagnosticMessageText(ours[0].messageText, " "));
console.log(JSON.stringify(await Promise.all(documents.map(faults))));
