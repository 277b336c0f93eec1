/** A pattern in which each `*` stands for any characters but `/`. Takes time in proportion to both, whatever they are. */
export function matchesGlob(pattern: string, text: string): boolean {
  const patterns = pattern.split('/');
  const parts = text.split('/');
  return patterns.length === parts.length && patterns.every((part, i) => matchesPart(part, parts[i] ?? ''));
}

function matchesPart(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let at = first.length;
  for (const piece of rest) {
    const found = text.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return at <= end;
}
