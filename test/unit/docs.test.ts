import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, it } from 'node:test';

const root = resolve(import.meta.dirname, '../..');
const pages = ['README.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: root })].toSorted();

/** Targets of inline links that are files of ours, without their anchors; code is no place for links. */
function linkedFiles(markdown: string): string[] {
  const prose = markdown.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '');
  const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
  return targets.filter((target) => !/^(?:[a-z]+:|#)/.test(target)).map((target) => target.replace(/#.*$/, ''));
}

describe('documentation', () => {
  it('has pages', () => assert.ok(pages.length > 5));

  for (const page of pages) {
    it(`${page} links to files that exist`, () => {
      const text = readFileSync(join(root, page), 'utf8');
      const missing = linkedFiles(text).filter((target) => !existsSync(join(root, dirname(page), target)));
      assert.deepEqual(missing, []);
    });
  }

  it('names tests that exist', () => {
    const text = readFileSync(join(root, 'docs/threat-model.md'), 'utf8');
    const files = new Set([...text.matchAll(/`([\w/.-]+\.test\.ts)`/g)].map(([, file = '']) => file));
    const known = globSync('test/**/*.test.ts', { cwd: root });
    const missing = [...files].filter((file) => !known.some((path) => path.endsWith(`/${file}`)));
    assert.deepEqual(missing, []);
  });
});
