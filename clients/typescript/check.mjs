// Checks the package as it would be published: its files, its size, and what compilers and bundlers find in it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

/** The greatest size of each module after gzip, in bytes. */
const SIZES = { 'dist/index.js': 4608, 'dist/react.js': 716 };

const run = (file, ...args) => execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

for (const [file, most] of Object.entries(SIZES)) {
  const { length } = gzipSync(readFileSync(file), { level: 9 });
  console.log(`${file}: ${length} of ${most} bytes after gzip`);
  assert.ok(length <= most, `${file} is too large`);
}

const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
assert.equal(dependencies, undefined, 'the package has no dependencies');

const folder = mkdtempSync(join(tmpdir(), 'presence-client-'));
try {
  const [{ filename, files }] = JSON.parse(run('npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder));
  const packed = files.map(({ path }) => path).filter((path) => !path.startsWith('dist/'));
  assert.deepEqual(packed.sort(), ['LICENSE', 'README.md', 'package.json']);
  const archive = join(folder, filename);
  run('node_modules/.bin/publint', '--strict', archive);
  // The package has ES modules only.
  run('node_modules/.bin/attw', archive, '--profile', 'esm-only', '--quiet');
} finally {
  rmSync(folder, { recursive: true });
}
console.log('publint and arethetypeswrong accept the package');
