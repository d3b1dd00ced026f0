// What Prometheus' own grammar finds in expressions: `node promql.mjs FOLDER`, which has the packages in node_modules.
// A JSON list of expressions on standard input, a list of findings on standard output.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const { parser } = require("@prometheus-io/lezer-promql");

function* nodes(node) {
  yield node;
  for (let child = node.firstChild; child; child = child.nextSibling) yield* nodes(child);
}

function children(node, ...names) {
  const found = [];
  for (const each of nodes(node)) if (names.includes(each.name)) found.push(each);
  return found;
}

function finding(text) {
  const tree = parser.parse(text);
  const word = (node) => text.slice(node.from, node.to);
  const unquoted = (node) => JSON.parse(word(node));
  const errors = [...nodes(tree.topNode)].filter((node) => node.type.isError).map((node) => node.from);
  const selectors = children(tree.topNode, "VectorSelector").map((selector) => {
    const functions = [];
    let range = null;
    for (let node = selector.parent; node; node = node.parent) {
      if (node.name === "MatrixSelector") range = word(node.getChild("DurationExpr") ?? node.lastChild);
      if (node.name === "FunctionCall") functions.push(word(node.getChild("FunctionIdentifier")));
    }
    const matchers = children(selector, "UnquotedLabelMatcher").map((matcher) => ({
      label: word(matcher.getChild("LabelName")),
      operator: word(matcher.getChild("MatchOp")),
      value: unquoted(matcher.getChild("StringLiteral")),
    }));
    const identifier = selector.getChild("Identifier");
    return { metric: identifier && word(identifier), matchers, range, functions };
  });
  const grouped = children(tree.topNode, "GroupingLabels").flatMap((node) => children(node, "LabelName").map(word));
  const made = children(tree.topNode, "FunctionCall")
    .filter((call) => ["label_join", "label_replace"].includes(word(call.getChild("FunctionIdentifier"))))
    .map((call) => children(call, "StringLiteral").filter((node) => node.parent.name === "FunctionCallBody").map(unquoted)[0]);
  return { errors, selectors, grouped, made };
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(finding)));
