// Judges standard input by the schema of SARIF 2.1.0 that OASIS published and a package carries; prints what it finds
// as JSON. The argument is a folder with node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/package.json`);
const Ajv = require("ajv");
const judge = new Ajv({ allErrors: true, schemaId: "id", meta: false, unknownFormats: "ignore" });
judge.addMetaSchema(require("ajv/lib/refs/json-schema-draft-04.json"));
const validate = judge.compile(require("@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json"));
validate(JSON.parse(readFileSync(0, "utf8")));
console.log(JSON.stringify(validate.errors ?? []));
