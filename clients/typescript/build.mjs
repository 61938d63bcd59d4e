// Builds dist/: one module for the client, one for React, and the types.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { minify } from 'terser';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));

// Names of properties that no user and no server sees. Tabs of one browser share some of them: the channel of the tabs
// has the version in its name, so that tabs of different builds do not talk to each other.
const INTERNAL =
  /^(onLead|onResign|onMessage|onWishes|wishes|attempt|visible|lists|refused|silent|forgetToken|hello|items|known|over|unsure|doubtful|view|told|connected)$/;

// The parts one by one, for the tests of single parts.
await build({ entryPoints: ['src/*.ts'], outdir: 'build', target: 'es2022', logLevel: 'warning' });

rmSync('dist', { recursive: true, force: true });
const { outputFiles } = await build({
  entryPoints: ['src/index.ts', 'src/react.ts'],
  outdir: 'dist',
  bundle: true,
  external: ['react'],
  format: 'esm',
  target: 'es2022',
  mangleProps: INTERNAL,
  define: { VERSION: JSON.stringify(version) },
  logLevel: 'warning',
  write: false,
});
const typescript = createRequire(import.meta.url).resolve('typescript/package.json');
execFileSync(process.execPath, [join(dirname(typescript), 'bin/tsc'), '--project', '.'], { stdio: 'inherit' });
// Types of parts that no user sees.
for (const file of readdirSync('dist')) if (!/^(index|client|react|types)\./.test(file)) rmSync(join('dist', file));
for (const { path, text } of outputFiles) {
  // Smaller after gzip than what esbuild makes.
  const { code } = await minify(text, { module: true, ecma: 2020, compress: { passes: 3, unsafe_arrows: true } });
  writeFileSync(path, code);
}
