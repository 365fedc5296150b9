// Parses statements in Redshift's dialect: a JSON array of texts comes in on standard input, and for each an object with
// its syntax tree or with what is wrong goes out. The parser is Apache DataFusion's sqlparser-rs.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { init, parse } from '@guanmingchiu/sqlparser-ts';

await init();
const parsed = JSON.parse(readFileSync(0, 'utf8')).map((text) => {
  try {
    return { tree: parse(text, 'redshift') };
  } catch (error) {
    return { error: error.message };
  }
});
// What is not there is undefined in a tree, and would be left out: the bigint of {"BigInt": undefined}, say.
process.stdout.write(JSON.stringify(parsed, (_, value) => value ?? null));
