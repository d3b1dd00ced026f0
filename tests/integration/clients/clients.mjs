// mysql2, mariadb and zongji, as a program that tests talk to: a request a line on standard input, answers on standard
// output under the request's id. Its sibling for clients from PyPI is serving.py.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// The packages are not beside this file: `node clients.mjs FOLDER`, which has them in node_modules.
const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;
const [mysql, mariadb, ZongJi] = await Promise.all(["mysql2/promise", "mariadb", "@vlasky/zongji"].map(load));

const readers = new Map();

function settings({ host, port, user, password, tls, compress = false }, options) {
  return { host, port, user, password, compress, ...options(tls) };
}

function mysql2Options(tls) {
  if (!tls) {
    return {};
  }
  const { ca, cert, key } = tls;
  return {
    ssl: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key), verifyIdentity: true },
  };
}

function mariadbOptions(tls) {
  if (!tls) {
    return { allowPublicKeyRetrieval: true };
  }
  const { ca, cert, key } = tls;
  return {
    ssl: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) },
  };
}

async function query(request) {
  const connection = await (request.client === "mysql2"
    ? mysql.createConnection(settings(request, mysql2Options))
    : mariadb.createConnection(settings(request, mariadbOptions)));
  try {
    const result = await connection.query(request.sql);
    return request.client === "mysql2" ? result[0] : [...result];
  } finally {
    await connection.end();
  }
}

function read(request, answer) {
  const zongji = new ZongJi(settings(request, mysql2Options));
  readers.set(request.id, zongji);
  zongji.on("ready", () => answer({ ready: true }));
  zongji.on("error", (error) => answer(failure(error)));
  zongji.on("stopped", () => answer({ ended: true }));
  zongji.on("binlog", (event) => (event.rows ?? []).forEach((row) => answer({ row: { ...row } })));
  zongji.start({
    serverId: request.server_id,
    includeEvents: ["tablemap", "writerows"],
    includeSchema: { [request.schema]: true },
    ...request.options,
  });
}

function plainNumbers(_, value) {
  return typeof value === "bigint" ? Number(value) : value;
}

function failure(error) {
  return { error: String(error.message), code: error.errno ?? error.code ?? null };
}

async function handle(request) {
  const answer = (said) => console.log(JSON.stringify({ id: request.id, ...said }, plainNumbers));
  try {
    if (request.do === "query") {
      answer({ rows: await query(request) });
    } else if (request.do === "read") {
      read(request, answer);
    } else {
      readers.get(request.id).stop();
    }
  } catch (error) {
    answer(failure(error));
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => handle(JSON.parse(line)))
  .on("close", () => process.exit());
